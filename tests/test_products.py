"""Products in bfloat16 are what they would be anywhere, and on the CPU given to its matrix units."""

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

from mnist_jax import models
from mnist_jax.networks import MLP
from mnist_jax.products import _by_rows, _directly, product
from mnist_jax.specs import Config, Hyper
from mnist_jax.train import init_state, train_epoch
from mnist_jax.types import Array, Examples

CPU = Path("/proc/cpuinfo")
SHAPES = [(256, 300, 100), (80, 784, 128), (32, 100, 10), (1, 7, 3), (3, 1, 1)]


def plain(left: Array, right: Array) -> Array:
    return left @ right


def factors(rows: int, inner: int, columns: int, *many: int) -> tuple[Array, Array, Array]:
    """Two matrices, and what the gradient is of their product."""
    keys = jax.random.split(jax.random.key(0), 3)
    shapes = (rows, inner), (inner, columns), (rows, columns)
    left, right, weights = (
        jax.random.normal(key, (*many, *shape), jnp.bfloat16) for key, shape in zip(keys, shapes, strict=True)
    )
    return left, right, weights


def close(ours: np.ndarray, theirs: np.ndarray) -> None:
    """To bfloat16's last bit."""
    np.testing.assert_allclose(ours, theirs, atol=2**-8 * abs(theirs).max())


def gradients(of: Callable[[Array, Array], Array]) -> Callable[..., tuple[Array, Array]]:
    def loss(left: Array, right: Array, weights: Array) -> Array:
        return (of(left, right) * weights).sum(dtype=jnp.float32)

    return jax.grad(loss, argnums=(0, 1))


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("mapped", [None, (0, 0, 0), (0, None, 0)], ids=str)
def test_it_is_the_product_and_so_are_its_gradients(
    shape: tuple[int, int, int], mapped: tuple[int | None, ...] | None
) -> None:
    arguments = factors(*shape, *(() if mapped is None else (3,)))
    if mapped is not None:
        arguments = tuple(a if axis == 0 else a[0] for a, axis in zip(arguments, mapped, strict=True))

    def found(function: Callable[..., object], *of: Array) -> list[np.ndarray]:
        function = function if mapped is None else jax.vmap(function, mapped[: len(of)])
        return [np.asarray(leaf, np.float32) for leaf in jax.tree.leaves(jax.jit(function)(*of))]

    np.testing.assert_array_equal(found(product, *arguments[:2]), found(plain, *arguments[:2]))
    ours, theirs = found(gradients(product), *arguments), found(gradients(plain), *arguments)
    for mine, expected in zip(ours, theirs, strict=True):
        close(mine, expected)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_a_cpus_form_of_the_gradients_is_the_others(shape: tuple[int, int, int]) -> None:
    for ours, theirs in zip(_by_rows(*factors(*shape)), _directly(*factors(*shape)), strict=True):
        close(np.asarray(ours, np.float32), np.asarray(theirs, np.float32))


def test_in_float32_it_is_left_alone() -> None:
    left, right, how = jnp.ones((4, 3)), jnp.ones((3, 2)), (((1,), (0,)), ((), ()))
    ours = jax.make_jaxpr(functools.partial(product, precision=None), static_argnums=2)(left, right, how)
    theirs = jax.make_jaxpr(jax.lax.dot_general, static_argnums=2)(left, right, how)
    assert str(ours) == str(theirs)


def test_batches_on_several_devices_are_trained_on_as_on_one() -> None:
    """In a process of its own, which has two devices; axes are explicit, and then a `shard_map`'s."""
    program = """
import functools
import jax
import jax.numpy as jnp
import mnist_jax
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec
from mnist_jax.types import Examples

config = mnist_jax.Config(
    mnist_jax.MLP((16,), ("relu",)), optimizer=mnist_jax.Optimizer("sgd"), dtype="bfloat16"
)
start = mnist_jax.init_state(config, jax.random.key(0))
batch = Examples(jax.random.uniform(jax.random.key(1), (8, 28, 28)), jnp.arange(8, dtype=jnp.uint8))
step = jax.jit(mnist_jax.train_step, static_argnums=0)
hyper = mnist_jax.Hyper(1.0)  # so that a step is the gradient
mesh = jax.make_mesh((2,), ("batch",))
on_one, _ = step(config, hyper, start, batch)
with jax.set_mesh(mesh):
    every = jax.device_put(start, NamedSharding(mesh, PartitionSpec()))
    split = jax.device_put(batch, NamedSharding(mesh, PartitionSpec("batch")))
    on_two, _ = step(config, hyper, every, split)
jax.tree.map(functools.partial(np.testing.assert_allclose, atol=5e-3), on_two.params, on_one.params)
assert abs(start.params["Dense_1"]["kernel"] - on_one.params["Dense_1"]["kernel"]).max() > 0.05

def logits(params, images):
    return mnist_jax.apply(config.model, params, images, dtype="bfloat16").sum()

def gradient(params, images):
    return jax.grad(logits)(params, images)

mapped = jax.shard_map(gradient, mesh=mesh, out_specs=PartitionSpec())
on_two, on_one = mapped(every.params, split.images), gradient(start.params, batch.images)
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
def test_all_products_of_an_epoch_are_for_matrix_units(monkeypatch: pytest.MonkeyPatch) -> None:
    """With factors in bfloat16 to the end, and row by row: there are eight, of which plain ones are three.

    Where plain ones are all eight, there is no need for `products` any more.
    """
    config = Config(MLP((512, 256), ("relu", "relu")), batch_size=256, dtype="bfloat16")
    start = init_state(config, jax.random.key(0))
    some = Examples(np.zeros((512, 28, 28), np.uint8), np.zeros(512, np.uint8))

    def count() -> int:
        epoch = jax.jit(functools.partial(train_epoch, config))
        program = epoch.lower(Hyper(), start, some).compile().as_text()
        header = r"^%fused_computation\S* \(\S+: bf16\[[\d,]+\], \S+: bf16\[[\d,]+\]\) -> "
        fused = re.findall(header + r".*\n(?:.*\n)*?}", program, re.MULTILINE)
        return sum("lhs_contracting_dims={1}, rhs_contracting_dims={0}" in found for found in fused)

    assert count() == 8
    monkeypatch.setattr(models, "product", jax.lax.dot_general)
    assert count() < 8
