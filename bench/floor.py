"""What a training step must cost at least on this machine, measured by parts.

Each large product at the best speed that any of the libraries at hand reaches for its shape, and one pass
over parameters, gradient and both of Adam's moments at the speed of memory. Nothing else: no gather, no
loss, no loop. So no program that does the same arithmetic can be much faster, and the ratio to it says what
is left to gain.
"""

import json
import subprocess
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from bench.clock import per_call
from bench.programs import RIVALS
from mnist_jax.networks import CNN, Network


def products(spec: Network, batch_size: int) -> Iterator[tuple[int, int, int]]:
    """The matrix products of one step as `(rows, inner, columns)`: for the output, and for the gradients.

    A convolution is the product of all its windows with its kernel.
    """
    layers = [(batch_size, fan_in, fan_out) for fan_in, fan_out in pairwise(spec.widths)]
    if isinstance(spec, CNN):
        windows = [batch_size * side**2 for side in spec.convolved]
        inner = [spec.kernel**2 * channels for channels in (1, *spec.channels)]
        layers = [*zip(windows, inner, spec.channels, strict=False), *layers]
    for layer, (rows, fan_in, fan_out) in enumerate(layers):
        yield rows, fan_in, fan_out
        yield fan_in, rows, fan_out
        if layer:
            yield rows, fan_out, fan_in


def flops(spec: Network, batch_size: int) -> int:
    """Floating-point operations in the products of one step, a multiplication and an addition each."""
    return sum(2 * rows * inner * columns for rows, inner, columns in products(spec, batch_size))


def floor(spec: Network, batch_size: int, torch_python: str | None = None) -> dict[str, Any]:
    """Seconds of one step at least, and where they go.

    Args:
        spec: the network.
        batch_size: examples per step.
        torch_python: a Python that has PyTorch, whose products then count too.
    """
    shapes = list(products(spec, batch_size))
    seconds = [_product(*shape) for shape in shapes]
    if torch_python is not None:
        for found, torch_seconds in zip(seconds, _torch(torch_python, shapes), strict=True):
            found["torch"] = torch_seconds
    parts: dict[str, dict[str, Any]] = {}
    for (m, k, n), found in zip(shapes, seconds, strict=True):
        least, by = min((took, name) for name, took in found.items())
        parts[f"{m}x{k}x{n}"] = {"seconds": least, "by": by}
    update = 7 * 4 * spec.parameters / _bytes_per_second(4 * 4 * spec.parameters)
    total = sum(part["seconds"] for part in parts.values()) + update
    return {"seconds": total, "products": parts, "update_seconds": update}


def peak_flops(dtype: str = "float32", size: int = 2048) -> float:
    """Operations per second in one large product, the most that this device reaches."""
    a = jax.random.normal(jax.random.key(0), (size, size), dtype)
    multiply = jax.jit(jnp.matmul)
    return float(2 * size**3 / per_call(lambda: multiply(a, a), least=0.2))


def _product(rows: int, inner: int, columns: int) -> dict[str, float]:
    """Seconds of a product by library and layout."""
    rng = np.random.default_rng(0)
    left = rng.standard_normal((rows, inner), np.float32)
    right = rng.standard_normal((inner, columns), np.float32)
    candidates = {**_numpy(left, right), **_xla(left, right)}
    return {name: per_call(run) for name, run in candidates.items()}


def _torch(python: str, shapes: list[tuple[int, int, int]]) -> list[float]:
    """The same in PyTorch, in a process of its own."""
    command = [python, str(RIVALS / "torch_products.py"), json.dumps(shapes)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    found: list[float] = json.loads(done.stdout)
    return found


def _numpy(left: np.ndarray, right: np.ndarray) -> dict[str, Callable[[], Any]]:
    out = np.empty((len(left), right.shape[1]), np.float32)
    turned = np.asfortranarray(left), np.asfortranarray(right)
    return {
        "numpy": lambda: np.matmul(left, right, out=out),
        "numpy, right turned": lambda: np.matmul(left, turned[1], out=out),
        "numpy, left turned": lambda: np.matmul(turned[0], right, out=out),
    }


def _xla(left: np.ndarray, right: np.ndarray) -> dict[str, Callable[[], Any]]:
    multiply = jax.jit(jnp.matmul)
    a, b = jnp.asarray(left), jnp.asarray(right)
    return {"xla": lambda: multiply(a, b)}


def _bytes_per_second(size: int) -> float:
    """How fast memory of so many bytes, or the cache that holds it, is read and written."""
    source = np.ones(max(size // 8, 1), np.float64)
    target = np.empty_like(source)
    return 2 * source.nbytes / per_call(lambda: np.copyto(target, source))
