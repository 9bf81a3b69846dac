"""One image moved out of shape: turned, leant, stretched, shifted and crumpled, in one bilinear sampling.

    deform(deformation, key, image)   one image; `jax.vmap` over keys and images for a batch
    displace(deformation, key)        where each of its pixels comes from
    affine(angle=..., tall=...)       the same, of given amounts and without crumpling
    sample(image, rows, columns)      bilinear interpolation there

Crumpling is Simard et al.'s of 2003, noise smoothed by a Gaussian; in 2010 Ciresan et al. turned and
stretched besides. A field that is smooth over some pixels needs no finer noise than that: it is drawn on a
coarse grid and spread over the image by two small products, with the same standard deviation.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float32, UInt8

from mnist_jax.checks import as_image
from mnist_jax.deformations import Deformation
from mnist_jax.errors import SpecError
from mnist_jax.models import check_key, scale
from mnist_jax.networks import IMAGE_SHAPE
from mnist_jax.types import AnyArray, Array, Key

SIDE = IMAGE_SHAPE[0]
MIDDLE = (SIDE - 1) / 2

Image = UInt8[AnyArray, "28 28"] | Float32[AnyArray, "28 28"]
Pixels = Float32[Array, "28 28"]
Number = float | jax.Array


def deform(deformation: Deformation, key: Key, image: Image) -> Pixels:
    """The image out of shape, float32 `[28, 28]` in 0..1; what comes from outside it is black.

    Args:
        deformation: how far, at most.
        key: of this image and this step.
        image: `[28, 28]`, uint8 or float32 in 0..1.

    Raises:
        InputError: the image has another shape or dtype.
        SpecError: the key is not one typed key, or the deformation none.
    """
    check_key(key)
    if not isinstance(deformation, Deformation):
        raise SpecError(f"deformation must be a Deformation; got {deformation!r}")
    pixels = scale(as_image(image))
    if deformation == Deformation(smoothness=deformation.smoothness):
        return pixels  # to the last bit
    return sample(pixels, *displace(deformation, key))


def displace(deformation: Deformation, key: Key) -> tuple[Pixels, Pixels]:
    """The row and the column that each pixel of the new image comes from, in pixels of the old one."""
    spread = _spread(deformation.smoothness)
    nodes = spread.shape[1] if deformation.elastic else 0
    draws = jax.random.uniform(key, (6 + 2 * nodes * nodes,), minval=-1, maxval=1)
    turn, lean, taller, wider, down, across = draws[:6]
    rows, columns = affine(
        angle=turn * math.radians(deformation.rotate),
        slope=jnp.tan(lean * math.radians(deformation.shear)),
        tall=1 + taller * deformation.scale,
        wide=1 + wider * deformation.scale,
        down=down * deformation.shift,
        across=across * deformation.shift,
    )
    if deformation.elastic:
        noise = deformation.elastic * draws[6:].reshape(2, nodes, nodes)
        crumpled = spread @ noise @ spread.T
        rows, columns = rows + crumpled[0], columns + crumpled[1]
    return rows, columns


def affine(
    *,
    angle: Number = 0.0,
    slope: Number = 0.0,
    tall: Number = 1.0,
    wide: Number = 1.0,
    down: Number = 0.0,
    across: Number = 0.0,
) -> tuple[Pixels, Pixels]:
    """The same where nothing is crumpled: the old image's places, turned about its middle and so on.

    Args:
        angle: by which the picture is turned, in radians, against the clock.
        slope: columns by which a place leans for each row below the middle.
        tall: rows of the old image for each of the new one.
        wide: columns likewise.
        down: how far below its own place a pixel comes from, in pixels.
        across: how far to the right likewise.
    """
    y = jnp.arange(SIDE, dtype=jnp.float32)[:, None] - MIDDLE
    x = jnp.arange(SIDE, dtype=jnp.float32)[None] - MIDDLE
    rows = tall * (jnp.cos(angle) * y + jnp.sin(angle) * x) + down + MIDDLE
    columns = wide * (jnp.cos(angle) * x - jnp.sin(angle) * y + slope * y) + across + MIDDLE
    return rows, columns


def sample(image: Pixels, rows: Pixels, columns: Pixels) -> Pixels:
    """The image at the given places, each between its four neighbours; zero outside."""
    wide = SIDE + 3
    padded = jnp.pad(image, (1, 2)).ravel()
    y, x = jnp.clip(rows, -1, SIDE) + 1, jnp.clip(columns, -1, SIDE) + 1
    top, left = jnp.floor(y), jnp.floor(x)
    below, right = y - top, x - left
    # All four neighbours side by side, so that each pixel is one look-up; four are three times as slow.
    size = padded.size - wide - 1
    corners = jnp.stack([padded[offset : offset + size] for offset in (0, 1, wide, wide + 1)], axis=-1)
    places = (top * wide + left).astype(jnp.int32)
    found = corners.at[places].get(mode="promise_in_bounds")
    above = found[..., 0] + right * (found[..., 1] - found[..., 0])
    under = found[..., 2] + right * (found[..., 3] - found[..., 2])
    return above + below * (under - above)


def _spread(sigma: float) -> Float32[np.ndarray, "28 nodes"]:
    """What a unit of noise at each node of a coarse grid, `sigma` apart, does to each row of the image.

    In both directions together it is a Gaussian times the grid's width, so that the sum has the variance of
    a Gaussian over noise in every pixel.
    """
    nodes = sigma * np.arange(-3, math.ceil(SIDE / sigma) + 3)
    distance = (np.arange(SIDE)[:, None] - nodes) / sigma
    density = np.exp(-0.5 * distance**2) / (sigma * math.sqrt(2 * math.pi))
    return (math.sqrt(sigma) * density).astype(np.float32)
