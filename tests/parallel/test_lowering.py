"""The programs for CUDA, ROCm and TPU, lowered on this CPU: real convolutions, no constraint of the CPU's."""

import functools
from typing import Any

import jax
import numpy as np
import pytest

from mnist_jax import evaluate, init_state, train_epoch
from mnist_jax.config.networks import CNN, MLP
from mnist_jax.config.training import Config, HyperParams
from mnist_jax.data.examples import Examples
from mnist_jax.parallel.mesh import as_mesh, batch_sharding

CONFIGS = {
    "cnn": Config(CNN((8, 16)), batch_size=32),
    "cnn in bfloat16": Config(CNN((8, 16)), batch_size=32, dtype="bfloat16"),
    "mlp in bfloat16": Config(MLP((32,)), batch_size=32, dtype="bfloat16"),
}
TRAIN = Examples(
    jax.ShapeDtypeStruct((100, 28, 28), np.uint8),  # type: ignore[arg-type]
    jax.ShapeDtypeStruct((100,), np.uint8),  # type: ignore[arg-type]
)
HYPERPARAMS = HyperParams(*[jax.ShapeDtypeStruct((), np.float32)] * 3)  # type: ignore[arg-type]


def lowered(platform: str, function: Any, *arguments: Any) -> str:
    traced = jax.jit(function).trace(*arguments)
    text: str = traced.lower(lowering_platforms=(platform,)).as_text()
    return text


def abstract_state(config: Config) -> Any:
    return jax.eval_shape(functools.partial(init_state, config), jax.random.key(0))


@pytest.mark.parametrize("platform", ["cuda", "rocm", "tpu"])
@pytest.mark.parametrize("name", CONFIGS)
def test_training_is_lowered_to_the_platforms_own_operations(platform: str, name: str) -> None:
    config, sharding = CONFIGS[name], batch_sharding(as_mesh(jax.devices("cpu")[:2]))  # type: ignore[arg-type]
    epoch = functools.partial(train_epoch, config, batch_sharding=sharding)
    text = lowered(platform, epoch, HYPERPARAMS, abstract_state(config), TRAIN)
    # Two forward, two for the kernels' gradients, one for the input's; again for the smaller last batch.
    assert text.count("stablehlo.convolution") == (10 if isinstance(config.model, CNN) else 0)
    assert "LayoutConstraint" not in text, "a custom call that only the CPU has"
    assert text.count('[{"devices"}]') == 2, "rows of the full batches, and of the last one"
    if config.dtype == "bfloat16":
        assert "bf16" in text


@pytest.mark.parametrize("platform", ["cuda", "rocm", "tpu"])
def test_evaluation_and_many_runs_are_lowered(platform: str) -> None:
    config = CONFIGS["cnn"]
    state = abstract_state(config)
    score = functools.partial(evaluate, config.model)
    assert lowered(platform, score, state.params, TRAIN).count("stablehlo.convolution") == 2
    stacked = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct((3, *leaf.shape), leaf.dtype), state)
    rates = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct((3,), leaf.dtype), HYPERPARAMS)
    many = jax.vmap(functools.partial(train_epoch, config), (0, 0, None))
    assert lowered(platform, many, rates, stacked, TRAIN).count("stablehlo.convolution") >= 10


def test_the_cpu_has_forms_of_its_own() -> None:
    """Or else the tests above could not fail."""
    config = CONFIGS["cnn in bfloat16"]
    text = lowered("cpu", functools.partial(train_epoch, config), HYPERPARAMS, abstract_state(config), TRAIN)
    assert "stablehlo.convolution" not in text
    assert "LayoutConstraint" in text
