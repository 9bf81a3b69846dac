"""Matrix products in bfloat16 are correct, and use the CPU's matrix units."""

import functools
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mnist_jax.config.networks import MLP
from mnist_jax.config.training import Config, HyperParams
from mnist_jax.data.examples import Examples
from mnist_jax.nn import model
from mnist_jax.nn.matmul import _by_rows, _directly, dot_general
from mnist_jax.training.start import init_state
from mnist_jax.training.step import train_epoch
from mnist_jax.types import Array

CPU = Path("/proc/cpuinfo")
SHAPES = [(256, 300, 100), (80, 784, 128), (32, 100, 10), (1, 7, 3), (3, 1, 1)]


def plain(left: Array, right: Array) -> Array:
    return left @ right


def factors(rows: int, inner: int, columns: int, *many: int) -> tuple[Array, Array, Array]:
    """Two matrices and the cotangent of their product."""
    keys = jax.random.split(jax.random.key(0), 3)
    shapes = (rows, inner), (inner, columns), (rows, columns)
    left, right, weights = (
        jax.random.normal(key, (*many, *shape), jnp.bfloat16) for key, shape in zip(keys, shapes, strict=True)
    )
    return left, right, weights


def close(ours: np.ndarray, theirs: np.ndarray) -> None:
    """Equal up to the last bit of bfloat16."""
    np.testing.assert_allclose(ours, theirs, atol=2**-8 * abs(theirs).max())


def gradients(function: Callable[[Array, Array], Array]) -> Callable[..., tuple[Array, Array]]:
    def loss(left: Array, right: Array, weights: Array) -> Array:
        return (function(left, right) * weights).sum(dtype=jnp.float32)

    return jax.grad(loss, argnums=(0, 1))


@pytest.mark.slow
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("mapped", [None, (0, 0, 0), (0, None, 0)], ids=str)
def test_dot_general_and_its_gradients_equal_the_plain_product(
    shape: tuple[int, int, int], mapped: tuple[int | None, ...] | None
) -> None:
    arguments = factors(*shape, *(() if mapped is None else (3,)))
    if mapped is not None:
        arguments = tuple(a if axis == 0 else a[0] for a, axis in zip(arguments, mapped, strict=True))

    def run(function: Callable[..., object], *operands: Array) -> list[np.ndarray]:
        function = function if mapped is None else jax.vmap(function, mapped[: len(operands)])
        return [np.asarray(leaf, np.float32) for leaf in jax.tree.leaves(jax.jit(function)(*operands))]

    np.testing.assert_array_equal(run(dot_general, *arguments[:2]), run(plain, *arguments[:2]))
    ours, theirs = run(gradients(dot_general), *arguments), run(gradients(plain), *arguments)
    for mine, expected in zip(ours, theirs, strict=True):
        close(mine, expected)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_the_gradients_for_the_cpu_equal_the_default(shape: tuple[int, int, int]) -> None:
    for ours, theirs in zip(_by_rows(*factors(*shape)), _directly(*factors(*shape)), strict=True):
        close(np.asarray(ours, np.float32), np.asarray(theirs, np.float32))


def test_float32_uses_lax_dot_general() -> None:
    left, right, how = jnp.ones((4, 3)), jnp.ones((3, 2)), (((1,), (0,)), ((), ()))
    ours = jax.make_jaxpr(functools.partial(dot_general, precision=None), static_argnums=2)(left, right, how)
    theirs = jax.make_jaxpr(jax.lax.dot_general, static_argnums=2)(left, right, how)
    assert str(ours) == str(theirs)


@pytest.mark.slow
def test_training_on_two_devices_equals_training_on_one() -> None:
    """In a separate process with two devices; with explicit axes and with `shard_map`."""
    program = """
import functools
import jax
import jax.numpy as jnp
import mnist_jax
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec
from mnist_jax.data.examples import Examples

config = mnist_jax.Config(
    mnist_jax.MLP((16,), ("relu",)), optimizer=mnist_jax.Optimizer("sgd"), dtype="bfloat16"
)
start = mnist_jax.init_state(config, jax.random.key(0))
batch = Examples(jax.random.uniform(jax.random.key(1), (8, 28, 28)), jnp.arange(8, dtype=jnp.uint8))
step = jax.jit(mnist_jax.train_step, static_argnums=0)
hyperparams = mnist_jax.HyperParams(1.0)  # so that a step is the gradient
mesh = jax.make_mesh((2,), ("batch",))
on_one, _ = step(config, hyperparams, start, batch)
with jax.set_mesh(mesh):
    replicated = jax.device_put(start, NamedSharding(mesh, PartitionSpec()))
    sharded = jax.device_put(batch, NamedSharding(mesh, PartitionSpec("batch")))
    on_two, _ = step(config, hyperparams, replicated, sharded)
jax.tree.map(functools.partial(np.testing.assert_allclose, atol=5e-3), on_two.params, on_one.params)
assert abs(start.params["Dense_1"]["kernel"] - on_one.params["Dense_1"]["kernel"]).max() > 0.05

def logits(params, images):
    return mnist_jax.apply(config.model, params, images, dtype="bfloat16").sum()

def gradient(params, images):
    return jax.grad(logits)(params, images)

mapped = jax.shard_map(gradient, mesh=mesh, out_specs=PartitionSpec())
on_two, on_one = mapped(replicated.params, sharded.images), gradient(start.params, batch.images)
for ours, theirs in zip(jax.tree.leaves(on_two), jax.tree.leaves(on_one), strict=True):
    np.testing.assert_allclose(ours, theirs, atol=0.02 * abs(theirs).max())
"""
    environment = os.environ | {
        "XLA_FLAGS": "--xla_force_host_platform_device_count=2",
        "JAX_PLATFORMS": "cpu",
    }
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.skipif(
    not CPU.exists() or "amx_bf16" not in CPU.read_text() or jax.default_backend() != "cpu",
    reason="the CPU has no matrix units",
)
def test_all_products_of_an_epoch_use_matrix_units(monkeypatch: pytest.MonkeyPatch) -> None:
    """All eight products have row-major operands in bfloat16; with `lax.dot_general`, only three have.

    As soon as `lax.dot_general` reaches eight, too, `mnist_jax.nn.matmul` is no longer needed.
    """
    config = Config(MLP((512, 256), ("relu", "relu")), batch_size=256, dtype="bfloat16")
    start = init_state(config, jax.random.key(0))
    examples = Examples(np.zeros((512, 28, 28), np.uint8), np.zeros(512, np.uint8))

    def count() -> int:
        epoch = jax.jit(functools.partial(train_epoch, config))
        program = epoch.lower(HyperParams(), start, examples).compile().as_text()
        header = r"^%fused_computation\S* \(\S+: bf16\[[\d,]+\], \S+: bf16\[[\d,]+\]\) -> "
        fused = re.findall(header + r".*\n(?:.*\n)*?}", program, re.MULTILINE)
        return sum(
            "lhs_contracting_dims={1}, rhs_contracting_dims={0}" in computation for computation in fused
        )

    assert count() == 8
    monkeypatch.setattr(model, "dot_general", jax.lax.dot_general)
    assert count() < 8
