"""Convolution and pooling in the form that is fastest on the platform for which they are compiled.

On the CPU, convolutions in a `lax.scan` are slow (docs/project/experiments.md), while matrix products are
fast. There an image is split into blocks of `b` x `b` pixels, and a matrix product maps each window of blocks
to a block of outputs: a convolution after space-to-depth. Larger blocks lead to larger products of fewer
windows, but multiply more zeros. On other platforms it is `lax.conv_general_dilated`. Both agree up to
rounding.
"""

import functools
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Float

from mnist_jax.config.networks import Pool
from mnist_jax.types import Array

# Elements of an output block, or of a window, beyond which a wider matrix product is not faster.
MAX_WIDTH = 128

FeatureMaps = Float[Array, "batch side side channels"]
Kernel = Float[Array, "k k channels out"]


def convolve(
    images: FeatureMaps,
    kernel: Kernel,
    strides: Any,
    padding: str,
    *,
    lhs_dilation: Any = (),
    rhs_dilation: Any = (),
    feature_group_count: int = 1,
    **_: Any,
) -> Float[Array, "batch newside newside out"]:
    """A replacement for `lax.conv_general_dilated` in `flax.linen.Conv`.

    Args:
        images: square images or feature maps.
        kernel: a square kernel.
        strides: all 1.
        padding: `SAME` or `VALID`.
        lhs_dilation: all 1.
        rhs_dilation: all 1.
        feature_group_count: 1.

    Returns:
        The convolution, of the dtype of its inputs.
    """
    assert {*strides, *lhs_dilation, *rhs_dilation, feature_group_count} == {1}
    before, after = ((kernel.shape[0] - 1) // 2, kernel.shape[0] // 2) if padding == "SAME" else (0, 0)
    padded = jnp.pad(images, ((0, 0), (before, after), (before, after), (0, 0)))
    result: Array = lax.platform_dependent(padded, kernel, cpu=_by_blocks, default=_directly)
    return result


def pool(kind: Pool, images: FeatureMaps) -> Float[Array, "batch half half channels"]:
    """2x2 pooling with stride 2; an odd last row or column is dropped.

    Args:
        kind: `average` or `max`.
        images: images or feature maps.

    Returns:
        The pooled images.
    """
    batch, height, width, channels = images.shape
    even = images[:, : height // 2 * 2, : width // 2 * 2]
    squares = even.reshape(batch, height // 2, 2, width // 2, 2, channels)
    # Four slices instead of a reduction, which is slow on the CPU.
    corners = [squares[:, :, row, :, column] for row in (0, 1) for column in (0, 1)]
    if kind == "average":
        return (corners[0] + corners[1] + corners[2] + corners[3]) * 0.25
    return jnp.maximum(jnp.maximum(corners[0], corners[1]), jnp.maximum(corners[2], corners[3]))


def _directly(images: FeatureMaps, kernel: Kernel) -> Array:
    """The convolution without padding by XLA, `[batch, side - k + 1, side - k + 1, out]`."""
    dimensions = ("NHWC", "HWIO", "NHWC")
    return lax.conv_general_dilated(images, kernel, (1, 1), "VALID", dimension_numbers=dimensions)


def _by_blocks(images: FeatureMaps, kernel: Kernel) -> Array:
    """The same convolution by matrix products of windows with `reach` x `reach` blocks of `block`^2 pixels.

    `cells` is the image in blocks, `[batch, side/block, side/block, block * block * channels]`. `columns`
    joins each block with those to its right. `rows` are the windows' rows of blocks, `[batch, blocks, blocks,
    reach * block * block * channels]` each, or all of them joined. `matrices`, `[rows, elements of a row,
    block * block * out]`, map a row of a window to a block of outputs.
    """
    batch, side, _, channels = images.shape
    size, _, _, out = kernel.shape
    outputs = side - size + 1
    block = _block(size, out, outputs)
    blocks, reach = outputs // block, 1 + (size - 1) // block  # a window is reach x reach blocks

    grid = side // block
    cells = images.reshape(batch, grid, block, grid, block, channels).transpose(0, 1, 3, 2, 4, 5)
    cells = cells.reshape(batch, grid, grid, block**2 * channels)
    columns = jnp.concatenate([cells[:, :, i : i + blocks] for i in range(reach)], axis=-1)
    rows = [columns[:, i : i + blocks] for i in range(reach)]
    if reach * columns.shape[-1] <= MAX_WIDTH:  # a separate product for each row would be too narrow
        rows = [jnp.concatenate(rows, axis=-1)]

    # taps[t, i, p] = 1 where kernel pixel p connects pixel t of the window to output i of the block.
    pixel, output, tap = np.ogrid[: reach * block, :block, :size]
    taps = jnp.asarray(pixel == output + tap, kernel.dtype)
    spread = jnp.einsum("yip,xjq,pqco->yxcijo", taps, taps, kernel, precision="highest")
    spread = spread.reshape(reach, block, reach, block, channels, block**2 * out)
    matrices = spread.transpose(0, 2, 1, 3, 4, 5).reshape(len(rows), -1, block**2 * out)

    # Two-dimensional products: for more dimensions, XLA transposes the gradient in memory.
    products = [row.reshape(-1, row.shape[-1]) @ matrix for row, matrix in zip(rows, matrices, strict=True)]
    result = (
        functools.reduce(jnp.add, products)
        .reshape(batch, blocks, blocks, block, block, out)
        .transpose(0, 1, 3, 2, 4, 5)
    )
    return result.reshape(batch, outputs, outputs, out)


def _block(size: int, out: int, outputs: int) -> int:
    """The largest block side that divides `size - 1` and `outputs` and is not too wide."""
    sides = (
        b for b in range(1, size) if (size - 1) % b == 0 and outputs % b == 0 and b**2 * out <= MAX_WIDTH
    )
    return max(sides, default=1)
