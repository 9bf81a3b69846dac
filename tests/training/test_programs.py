"""A process keeps the compiled programs of few networks."""

from pathlib import Path

import jax
import pytest

from mnist_jax._utils.kept_programs import KEPT_PROGRAMS
from mnist_jax.config.networks import MLP
from mnist_jax.config.training import Config
from mnist_jax.data.datasets import Dataset
from mnist_jax.nn.model import predict
from mnist_jax.training.loop import fit


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="memory maps are counted on Linux")
def test_old_networks_leave_no_programs_behind(digits: Dataset) -> None:
    """Linux allows a process 65,530 memory maps, and JAX crashes without one."""

    def train(units: int) -> int:
        config = Config(MLP((units,), ("relu",)), epochs=1)
        result = fit(config, digits.train[:64], digits.validation, key=jax.random.key(7))
        predict(config.model, result.params, digits.test.images[:units])
        return Path("/proc/self/maps").read_text().count("\n")

    *_, before = [train(units) for units in range(1, KEPT_PROGRAMS + 1)]
    *_, after = [train(units) for units in range(KEPT_PROGRAMS + 1, KEPT_PROGRAMS + 9)]
    assert after - before < 8 * 100  # 24 for a network; its programs take 380
