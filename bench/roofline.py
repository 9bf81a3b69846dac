"""A lower bound on the time of a training step on this machine, from measured parts.

The parts are each large matrix product, at the best speed of the installed libraries for its shape, and one
pass over parameters, gradients and both of Adam's moments at memory bandwidth. Gather, loss and loop are left
out. So no program with the same arithmetic can be much faster, and the ratio to the bound shows what is left
to gain.
"""

import json
import subprocess
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from bench.timing import per_call
from bench.workers import BASELINES
from mnist_jax.config.networks import CNN, Network


def products(spec: Network, batch_size: int) -> Iterator[tuple[int, int, int]]:
    """Yields the matrix products of one step as `(rows, inner, columns)`: forward, then gradients, per layer.

    A convolution counts as the product of all its windows with its kernel.
    """
    layers = [(batch_size, fan_in, fan_out) for fan_in, fan_out in pairwise(spec.layer_sizes)]
    if isinstance(spec, CNN):
        windows = [batch_size * side**2 for side in spec.conv_output_sizes]
        inner = [spec.kernel_size**2 * channels for channels in (1, *spec.channels)]
        layers = [*zip(windows, inner, spec.channels, strict=False), *layers]
    for layer, (rows, fan_in, fan_out) in enumerate(layers):
        yield rows, fan_in, fan_out
        yield fan_in, rows, fan_out
        if layer:
            yield rows, fan_out, fan_in


def flops(spec: Network, batch_size: int) -> int:
    """Floating-point operations in the products of one step; a multiply-add counts as two."""
    return sum(2 * rows * inner * columns for rows, inner, columns in products(spec, batch_size))


def floor(spec: Network, batch_size: int, torch_python: str | None = None) -> dict[str, Any]:
    """The lower bound of one step in seconds, and its parts.

    Args:
        spec: the network.
        batch_size: examples per step.
        torch_python: a Python with PyTorch, to include PyTorch's products.
    """
    shapes = list(products(spec, batch_size))
    seconds = [_product(*shape) for shape in shapes]
    if torch_python is not None:
        answer = _torch(torch_python, shapes)
        for candidates, torch_seconds in zip(seconds, answer["seconds"], strict=True):
            candidates[f"torch {answer['version']}"] = torch_seconds
    parts: dict[str, dict[str, Any]] = {}
    for (m, k, n), candidates in zip(shapes, seconds, strict=True):
        fastest, by = min((value, name) for name, value in candidates.items())
        parts[f"{m}x{k}x{n}"] = {"seconds": fastest, "by": by}
    update = 7 * 4 * spec.num_params / _bytes_per_second(4 * 4 * spec.num_params)
    total = sum(part["seconds"] for part in parts.values()) + update
    return {"seconds": total, "products": parts, "update_seconds": update}


def peak_flops(dtype: str = "float32", size: int = 2048) -> float:
    """The peak floating-point operations per second of the device, measured on one large product."""
    a = jax.random.normal(jax.random.key(0), (size, size), dtype)
    multiply = jax.jit(jnp.matmul)
    return float(2 * size**3 / per_call(lambda: multiply(a, a), min_seconds=0.2))


def _product(rows: int, inner: int, columns: int) -> dict[str, float]:
    """Seconds of a product, by library and memory layout."""
    rng = np.random.default_rng(0)
    left = rng.standard_normal((rows, inner), np.float32)
    right = rng.standard_normal((inner, columns), np.float32)
    candidates = {**_numpy(left, right), **_xla(left, right)}
    return {name: per_call(run) for name, run in candidates.items()}


def _torch(python: str, shapes: list[tuple[int, int, int]]) -> dict[str, Any]:
    """PyTorch's version, which names its build, and its seconds of products, in a process of its own."""
    command = [python, str(BASELINES / "torch_products.py"), json.dumps(shapes)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def _numpy(left: np.ndarray, right: np.ndarray) -> dict[str, Callable[[], Any]]:
    out = np.empty((len(left), right.shape[1]), np.float32)
    left_t, right_t = np.asfortranarray(left), np.asfortranarray(right)
    return {
        "numpy": lambda: np.matmul(left, right, out=out),
        "numpy, right transposed": lambda: np.matmul(left, right_t, out=out),
        "numpy, left transposed": lambda: np.matmul(left_t, right, out=out),
    }


def _xla(left: np.ndarray, right: np.ndarray) -> dict[str, Callable[[], Any]]:
    multiply = jax.jit(jnp.matmul)
    a, b = jnp.asarray(left), jnp.asarray(right)
    return {"xla": lambda: multiply(a, b)}


def _bytes_per_second(size: int) -> float:
    """Bandwidth of reading and writing `size` bytes, in memory or in the cache that holds them."""
    source = np.ones(max(size // 8, 1), np.float64)
    target = np.empty_like(source)
    return 2 * source.nbytes / per_call(lambda: np.copyto(target, source))
