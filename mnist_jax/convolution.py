"""Convolution and pooling, in the form that is fastest on the device that they are compiled for.

On the CPU a convolution in a `lax.scan` is slow (bench/NOTES.md), while matrix products are fast. So there
the picture is cut into blocks of `b` x `b` pixels, and a product maps each window of blocks to a whole block
of results: a convolution after space-to-depth. Larger blocks make larger products of fewer windows, but
multiply more zeros. Elsewhere it is `lax.conv_general_dilated`. Both give the same, to rounding.
"""

import functools
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Float

from mnist_jax.networks import Pool
from mnist_jax.types import Array

# Numbers in a block of results, or in a window, from which on a product gains nothing by being wider.
WIDEST = 128

Pictures = Float[Array, "batch side side channels"]
Kernel = Float[Array, "k k channels out"]


def convolve(
    pictures: Pictures,
    kernel: Kernel,
    strides: Any,
    padding: str,
    *,
    lhs_dilation: Any = (),
    rhs_dilation: Any = (),
    feature_group_count: int = 1,
    **_: Any,
) -> Float[Array, "batch newside newside out"]:
    """A convolution, for `flax.linen.Conv` to use in place of `lax.conv_general_dilated`.

    Args:
        pictures: square ones.
        kernel: a square one.
        strides: one.
        padding: `SAME` or `VALID`.
        lhs_dilation: ones.
        rhs_dilation: ones.
        feature_group_count: one.
    """
    assert {*strides, *lhs_dilation, *rhs_dilation, feature_group_count} == {1}
    before, after = ((kernel.shape[0] - 1) // 2, kernel.shape[0] // 2) if padding == "SAME" else (0, 0)
    padded = jnp.pad(pictures, ((0, 0), (before, after), (before, after), (0, 0)))
    found: Array = lax.platform_dependent(padded, kernel, cpu=_by_blocks, default=_directly)
    return found


def pool(kind: Pool, pictures: Pictures) -> Float[Array, "batch half half channels"]:
    """The average or the maximum of each square of 2x2; a last odd row or column is left out."""
    batch, height, width, channels = pictures.shape
    even = pictures[:, : height // 2 * 2, : width // 2 * 2]
    squares = even.reshape(batch, height // 2, 2, width // 2, 2, channels)
    # Four slices and not a reduction, which the CPU does slowly.
    corners = [squares[:, :, row, :, column] for row in (0, 1) for column in (0, 1)]
    if kind == "average":
        return (corners[0] + corners[1] + corners[2] + corners[3]) * 0.25
    return jnp.maximum(jnp.maximum(corners[0], corners[1]), jnp.maximum(corners[2], corners[3]))


def _directly(pictures: Pictures, kernel: Kernel) -> Array:
    """An ordinary convolution without padding, `[batch, side - k + 1, side - k + 1, out]`."""
    dimensions = ("NHWC", "HWIO", "NHWC")
    return lax.conv_general_dilated(pictures, kernel, (1, 1), "VALID", dimension_numbers=dimensions)


def _by_blocks(pictures: Pictures, kernel: Kernel) -> Array:
    """The same, by products of windows of `reach` x `reach` blocks, each `block` x `block` pixels.

    `cut` is the picture in blocks, `[batch, side/block, side/block, block * block * channels]`; `columns` has
    beside each block those to its right; `rows` are the windows' rows of blocks, `[batch, blocks, blocks,
    reach * block * block * channels]` each, or all in one. `matrices` are what takes a row of a window to the
    block of results, `[rows, the row's numbers, block * block * out]`.
    """
    batch, side, _, channels = pictures.shape
    size, _, _, out = kernel.shape
    results = side - size + 1
    block = _block(size, out, results)
    blocks, reach = results // block, 1 + (size - 1) // block  # a window is reach x reach blocks

    cut = pictures.reshape(batch, side // block, block, side // block, block, channels)
    cut = cut.transpose(0, 1, 3, 2, 4, 5).reshape(batch, side // block, side // block, block**2 * channels)
    columns = jnp.concatenate([cut[:, :, i : i + blocks] for i in range(reach)], axis=-1)
    rows = [columns[:, i : i + blocks] for i in range(reach)]
    if reach * columns.shape[-1] <= WIDEST:  # then a product for each row would be too narrow
        rows = [jnp.concatenate(rows, axis=-1)]

    # taps[t, i, p] = 1 where the window's pixel t meets the block's result i through the kernel's pixel p.
    pixel, result, tap = np.ogrid[: reach * block, :block, :size]
    taps = jnp.asarray(pixel == result + tap, kernel.dtype)
    spread = jnp.einsum("yip,xjq,pqco->yxcijo", taps, taps, kernel, precision="highest")
    spread = spread.reshape(reach, block, reach, block, channels, block**2 * out)
    matrices = spread.transpose(0, 2, 1, 3, 4, 5).reshape(len(rows), -1, block**2 * out)

    # Two dimensions and no more: of others XLA transposes the gradient in memory.
    products = [row.reshape(-1, row.shape[-1]) @ matrix for row, matrix in zip(rows, matrices, strict=True)]
    found = (
        functools.reduce(jnp.add, products)
        .reshape(batch, blocks, blocks, block, block, out)
        .transpose(0, 1, 3, 2, 4, 5)
    )
    return found.reshape(batch, results, results, out)


def _block(size: int, out: int, results: int) -> int:
    """The largest side of a block that divides what it must and is not too wide."""
    fitting = (b for b in range(1, size) if (size - 1) % b == 0 and results % b == 0 and b**2 * out <= WIDEST)
    return max(fitting, default=1)
