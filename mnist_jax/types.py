"""Types of arrays, with their shapes and dtypes."""

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from jaxtyping import Float32, Int, Integer, PRNGKeyArray, UInt8

# Functions accept NumPy or JAX arrays and return JAX arrays.
AnyArray = jax.Array | np.ndarray
Array = jax.Array

# White on black, `uint8` 0..255 or `float32` 0..1.
Images = UInt8[AnyArray, "batch 28 28"] | Float32[AnyArray, "batch 28 28"]
Labels = Integer[AnyArray, "batch"]
Logits = Float32[Array, "batch classes"]
Confusion = Int[Array, "classes classes"]
Scalar = Float32[Array, ""]
Key = PRNGKeyArray

# The nested dict of Flax: layer -> {"kernel": [in, out], "bias": [out]}, all float32.
Params = Mapping[str, Any]
