"""Random deformation of an image: rotation, shear, scaling, translation and elastic deformation.

    deform(deformation, key, image)        a deformed image; use `jax.vmap` for a batch
    sampling_grid(deformation, key)        random source coordinates of each pixel
    affine_grid(angle=..., scale_y=...)    source coordinates of a given affine transformation
    bilinear_sample(image, rows, columns)  bilinear interpolation at such coordinates

All deformations are combined into one bilinear interpolation. Elastic deformation is Gaussian-filtered noise
(Simard et al. 2003); Ciresan et al. 2010 add rotation and scaling. Because the displacement field is smooth,
its noise is sampled on a coarse grid and interpolated by two small matrix products, with the same standard
deviation.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float32, UInt8

from mnist_jax.config.deformation import Deformation
from mnist_jax.config.input_checks import as_image
from mnist_jax.config.networks import IMAGE_SHAPE
from mnist_jax.errors import SpecError
from mnist_jax.nn.keys import check_key
from mnist_jax.nn.model import to_unit_range
from mnist_jax.types import AnyArray, Array, Key

SIDE = IMAGE_SHAPE[0]
MIDDLE = (SIDE - 1) / 2

Image = UInt8[AnyArray, "28 28"] | Float32[AnyArray, "28 28"]
Pixels = Float32[Array, "28 28"]
Number = float | jax.Array


def deform(deformation: Deformation, key: Key, image: Image) -> Pixels:
    """Deform an image randomly; pixels from outside the image are black.

    Args:
        deformation: limits of the deformation.
        key: a single typed key, different for each image and step.
        image: `[28, 28]`, uint8 0..255 or float32 0..1.

    Returns:
        The deformed image, float32 `[28, 28]` in 0..1.

    Raises:
        InputError: if the shape or dtype of the image is wrong.
        SpecError: if `key` is not a single typed key or `deformation` not a `Deformation`.

    Examples:
        >>> import jax
        >>> from mnist_jax import Deformation, deform
        >>> image = jax.numpy.zeros((28, 28), "uint8")
        >>> deform(Deformation(rotate=10), jax.random.key(0), image).shape
        (28, 28)
    """
    check_key(key)
    if not isinstance(deformation, Deformation):
        raise SpecError(f"deformation must be a Deformation; got {deformation!r}")
    pixels = to_unit_range(as_image(image))
    if deformation == Deformation(elastic_sigma=deformation.elastic_sigma):
        return pixels  # exactly, without interpolation
    return bilinear_sample(pixels, *sampling_grid(deformation, key))


def sampling_grid(deformation: Deformation, key: Key) -> tuple[Pixels, Pixels]:
    """Sample the source coordinates of each pixel of a deformed image.

    Args:
        deformation: limits of the deformation.
        key: a single typed key.

    Returns:
        Rows and columns in the source image, in pixels, float32 `[28, 28]` each.
    """
    spread = _smoothing(deformation.elastic_sigma)
    nodes = spread.shape[1] if deformation.elastic_alpha else 0
    draws = jax.random.uniform(key, (6 + 2 * nodes * nodes,), minval=-1, maxval=1)
    angle, shear, scale_y, scale_x, shift_y, shift_x = draws[:6]
    rows, columns = affine_grid(
        angle=angle * math.radians(deformation.rotate),
        shear=jnp.tan(shear * math.radians(deformation.shear)),
        scale_y=1 + scale_y * deformation.scale,
        scale_x=1 + scale_x * deformation.scale,
        shift_y=shift_y * deformation.shift,
        shift_x=shift_x * deformation.shift,
    )
    if deformation.elastic_alpha:
        noise = deformation.elastic_alpha * draws[6:].reshape(2, nodes, nodes)
        displacement = spread @ noise @ spread.T
        rows, columns = rows + displacement[0], columns + displacement[1]
    return rows, columns


def affine_grid(
    *,
    angle: Number = 0.0,
    shear: Number = 0.0,
    scale_y: Number = 1.0,
    scale_x: Number = 1.0,
    shift_y: Number = 0.0,
    shift_x: Number = 0.0,
) -> tuple[Pixels, Pixels]:
    """The source coordinates of each pixel under an affine transformation about the center of the image.

    Args:
        angle: counterclockwise rotation of the image, in radians.
        shear: source columns per row below the center.
        scale_y: source rows per row; above 1, the image shrinks vertically.
        scale_x: source columns per column; above 1, the image shrinks horizontally.
        shift_y: offset of the source rows in pixels; positive values move the image up.
        shift_x: offset of the source columns in pixels; positive values move the image to the left.

    Returns:
        Rows and columns in the source image, in pixels, float32 `[28, 28]` each.
    """
    y = jnp.arange(SIDE, dtype=jnp.float32)[:, None] - MIDDLE
    x = jnp.arange(SIDE, dtype=jnp.float32)[None] - MIDDLE
    rows = scale_y * (jnp.cos(angle) * y + jnp.sin(angle) * x) + shift_y + MIDDLE
    columns = scale_x * (jnp.cos(angle) * x - jnp.sin(angle) * y + shear * y) + shift_x + MIDDLE
    return rows, columns


def bilinear_sample(image: Pixels, rows: Pixels, columns: Pixels) -> Pixels:
    """Interpolate an image bilinearly; it is zero outside.

    Args:
        image: float32 `[28, 28]`.
        rows: row coordinates in pixels, `[28, 28]`.
        columns: column coordinates in pixels, `[28, 28]`.

    Returns:
        The interpolated image, float32 `[28, 28]`.
    """
    stride = SIDE + 3
    padded = jnp.pad(image, (1, 2)).ravel()
    y, x = jnp.clip(rows, -1, SIDE) + 1, jnp.clip(columns, -1, SIDE) + 1
    top, left = jnp.floor(y), jnp.floor(x)
    below, right = y - top, x - left
    # One gather of all four neighbors of a pixel; four separate gathers are three times as slow.
    size = padded.size - stride - 1
    corners = jnp.stack([padded[offset : offset + size] for offset in (0, 1, stride, stride + 1)], axis=-1)
    indices = (top * stride + left).astype(jnp.int32)
    neighbors = corners.at[indices].get(mode="promise_in_bounds")
    upper = neighbors[..., 0] + right * (neighbors[..., 1] - neighbors[..., 0])
    lower = neighbors[..., 2] + right * (neighbors[..., 3] - neighbors[..., 2])
    return upper + below * (lower - upper)


def _smoothing(sigma: float) -> Float32[np.ndarray, "28 nodes"]:
    """The weight of the noise at each node of a coarse grid of spacing `sigma` for each row of the image.

    Rows and columns combined, it is a Gaussian times the grid spacing, so that the displacement has the same
    variance as Gaussian-filtered noise in every pixel.
    """
    nodes = sigma * np.arange(-3, math.ceil(SIDE / sigma) + 3)
    distance = (np.arange(SIDE)[:, None] - nodes) / sigma
    density = np.exp(-0.5 * distance**2) / (sigma * math.sqrt(2 * math.pi))
    return (math.sqrt(sigma) * density).astype(np.float32)
