"""Convolution and pooling in the form that is fastest on the platform for which they are compiled.

On the CPU, JAX's own convolutions and gradients are slow in a `lax.scan` (docs/project/experiments.md). There
are two other forms:

    _by_blocks   matrix products: an image is split into blocks of `b` x `b` pixels, and a product maps each
                 window of blocks to a block of outputs, a convolution after space-to-depth; larger blocks
                 lead to larger products of fewer windows, but multiply more zeros
    _by_library  XLA's convolution, with gradients that are convolutions which its CPU libraries have code for

On other platforms it is `lax.conv_general_dilated`. All agree up to rounding.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Float

from mnist_jax.config.networks import Padding, Pool
from mnist_jax.types import Array

# Elements of an output block, or of a window, beyond which a wider matrix product is not faster.
MAX_WIDTH = 128

FeatureMaps = Float[Array, "batch side side channels"]
Kernel = Float[Array, "k k channels out"]
Bias = Float[Array, "out"]


def convolve(
    images: FeatureMaps, kernel: Kernel, bias: Bias, padding: Padding
) -> Float[Array, "batch newside newside out"]:
    """Convolves square images with a square kernel, stride 1, and adds the bias.

    Args:
        images: images or feature maps.
        kernel: the kernel.
        bias: one number per output channel.
        padding: `same` or `valid`.

    Returns:
        The convolution, of the dtype of its inputs.
    """
    size = kernel.shape[0]
    before, after = ((size - 1) // 2, size // 2) if padding == "same" else (0, 0)
    padded = jnp.pad(images, ((0, 0), (before, after), (before, after), (0, 0)))
    on_cpu = _by_library if _suits_library(padded, kernel) else _by_blocks
    result: Array = lax.platform_dependent(padded, kernel, bias, cpu=on_cpu, default=_directly)
    return result


def pool(kind: Pool, images: FeatureMaps) -> Float[Array, "batch half half channels"]:
    """2x2 pooling with stride 2; an odd last row or column is dropped.

    Args:
        kind: `average` or `max`.
        images: images or feature maps.

    Returns:
        The pooled images.
    """
    if kind == "average":
        return _average(images)
    upper_left, upper_right, lower_left, lower_right = _corners(images)
    return jnp.maximum(jnp.maximum(upper_left, upper_right), jnp.maximum(lower_left, lower_right))


@jax.custom_jvp
def _average(images: FeatureMaps) -> Array:
    upper_left, upper_right, lower_left, lower_right = _corners(images)
    return (upper_left + upper_right + lower_left + lower_right) * 0.25


@_average.defjvp
def _average_jvp(images: tuple[FeatureMaps], tangents: tuple[FeatureMaps]) -> tuple[Array, Array]:
    """As a sum over axes, whose transpose, the gradient, broadcasts; that of four slices adds four images."""
    return _average(*images), _squares(*tangents).sum((2, 4)) * 0.25


def _corners(images: FeatureMaps) -> list[Array]:
    """Four slices, because a reduction over squares is slow on the CPU."""
    squares = _squares(images)
    return [squares[:, :, row, :, column] for row in (0, 1) for column in (0, 1)]


def _squares(images: FeatureMaps) -> Array:
    """The images in squares of 2x2, `[batch, half, 2, half, 2, channels]`."""
    batch, height, width, channels = images.shape
    even = images[:, : height // 2 * 2, : width // 2 * 2]
    return even.reshape(batch, height // 2, 2, width // 2, 2, channels)


def _convolution(images: Array, kernel: Array, *, above: int = 0, below: int = 0, sides: int = 0) -> Array:
    """XLA's convolution, with rows of zeros above and below the images, and columns at both sides."""
    padding = ((above, below), (sides, sides))
    dimensions = ("NHWC", "HWIO", "NHWC")
    return lax.conv_general_dilated(images, kernel, (1, 1), padding, dimension_numbers=dimensions)


def _directly(images: FeatureMaps, kernel: Kernel, bias: Bias) -> Array:
    """The convolution without padding by XLA, `[batch, side - k + 1, side - k + 1, out]`."""
    return _convolution(images, kernel) + bias[None, None, None]


def _suits_library(images: FeatureMaps, kernel: Kernel) -> bool:
    """Whether `_by_library` is faster than `_by_blocks`: a rule that fits the measured layers."""
    size, _, channels, _ = kernel.shape
    outputs = images.shape[1] - size + 1
    return images.dtype == jnp.float32 and channels >= 16 and 2 * outputs >= 5 * size


def _by_library(images: FeatureMaps, kernel: Kernel, bias: Bias) -> Array:
    """The convolution without padding by XLA, with other gradients than JAX's."""
    return _library_convolution(lax.optimization_barrier(images), kernel) + bias[None, None, None]


@jax.custom_jvp
def _library_convolution(images: FeatureMaps, kernel: Kernel) -> Array:
    return _convolution(images, kernel)


@_library_convolution.defjvp
def _library_jvp(
    operands: tuple[FeatureMaps, Kernel], tangents: tuple[FeatureMaps, Kernel]
) -> tuple[Array, Array]:
    """States the two gradients, from which JAX derives the tangents."""
    images, kernel = operands
    result = _library_convolution(images, kernel)
    gradient = jax.ShapeDtypeStruct(result.shape, result.dtype)
    of_images = jax.linear_transpose(functools.partial(_images_gradient, kernel), gradient)
    of_kernel = jax.linear_transpose(functools.partial(_kernel_gradient, images), gradient)
    return result, of_images(tangents[0])[0] + of_kernel(tangents[1])[0]


def _images_gradient(kernel: Kernel, gradient: Array) -> Array:
    """The gradient, with zeros around it, convolved with the flipped kernel."""
    around = len(kernel) - 1
    flipped = kernel[::-1, ::-1].swapaxes(2, 3)
    return _convolution(gradient, flipped, above=around, below=around, sides=around)


def _kernel_gradient(images: FeatureMaps, gradient: Array) -> Array:
    """The images, with channel and batch swapped, convolved with the gradient.

    Rows of zeros make the gradient taller than the images, for which YNNPACK has no code, so that XLA takes
    Eigen's, which is faster.
    """
    rows = images.shape[1] - gradient.shape[1] + 1
    taller = jnp.pad(gradient.transpose(1, 2, 0, 3), ((0, rows), (0, 0), (0, 0), (0, 0)))
    return _convolution(images.transpose(3, 1, 2, 0), taller, below=rows).transpose(1, 2, 0, 3)


def _by_blocks(images: FeatureMaps, kernel: Kernel, bias: Bias) -> Array:
    """The same convolution by matrix products of windows with `reach` x `reach` blocks of `block`^2 pixels.

    `cells` is the image in blocks, `[batch, side/block, side/block, block * block * channels]`. `columns`
    joins each block with those to its right. `rows` are the windows' rows of blocks, `[batch, blocks, blocks,
    reach * block * block * channels]` each, or all of them joined. `matrices`, `[rows, elements of a row,
    block * block * out]`, map a row of a window to a block of outputs.
    """
    images = lax.optimization_barrier(images)  # else XLA computes them again for each slice below
    batch, side, _, channels = images.shape
    size, _, _, out = kernel.shape
    outputs = side - size + 1
    block = _block(size, out, outputs)
    blocks, reach = outputs // block, 1 + (size - 1) // block  # a window is reach x reach blocks

    grid = side // block
    cells = images.reshape(batch, grid, block, grid, block * channels).transpose(0, 1, 3, 2, 4)
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
    # The bias is added to blocks, so that its gradient, too, needs the result's gradient in blocks alone.
    result = functools.reduce(jnp.add, products) + jnp.tile(bias, block**2)[None]
    result = _with_gradient_stored(result.reshape(batch, blocks, blocks, block, block * out))
    return result.transpose(0, 1, 3, 2, 4).reshape(batch, outputs, outputs, out)


@jax.custom_jvp
def _with_gradient_stored(values: Array) -> Array:
    """The values; their gradient is stored as it is, since as part of a product's operand it is slow."""
    return values


@_with_gradient_stored.defjvp
def _stored_jvp(values: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    return values[0], lax.optimization_barrier(tangents[0])


def _block(size: int, out: int, outputs: int) -> int:
    """The largest block side that divides `size - 1` and `outputs` and is not too wide."""
    sides = (
        b for b in range(1, size) if (size - 1) % b == 0 and outputs % b == 0 and b**2 * out <= MAX_WIDTH
    )
    return max(sides, default=1)
