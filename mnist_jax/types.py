"""Arrays by name, with their shapes."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Float32, Int, Integer, PRNGKeyArray, UInt8

# What functions take may come from NumPy or from JAX; what they give is JAX's.
AnyArray = jax.Array | np.ndarray
Array = jax.Array

# White on black, `uint8` 0..255 or `float32` 0..1.
Images = UInt8[AnyArray, "batch 28 28"] | Float32[AnyArray, "batch 28 28"]
Labels = Integer[AnyArray, "batch"]
Logits = Float32[Array, "batch 10"]
Confusion = Int[Array, "10 10"]
Scalar = Float32[Array, ""]
Key = PRNGKeyArray

# Flax's nested dict: layer -> {"kernel": [in, out], "bias": [out]}, all float32.
Params = Mapping[str, Any]


class Examples(NamedTuple):
    """Labelled images to train or validate on.

    Attributes:
        images: `[batch, 28, 28]`, uint8 0..255 or float32 0..1, white on black.
        labels: `[batch]`, any integer dtype, 0 to 9.
    """

    images: Images
    labels: Labels


class HeldOut(NamedTuple):
    """A test set: the same arrays as `Examples` under another type, so that training cannot take it."""

    images: Images
    labels: Labels
