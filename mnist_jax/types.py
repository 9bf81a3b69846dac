"""Arrays by name, with their shapes."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NoReturn, Self

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float32, Int, Integer, PRNGKeyArray, UInt8

from mnist_jax.checks import as_array, extremes

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


@dataclass(frozen=True, eq=False)
class _Labelled:
    """Images and their labels; whether these are what they must be is checked by who takes them.

    As many as there are labels; `[rows]` gives some of them, by a slice, an array of places or a mask.
    """

    images: Images
    labels: Labels

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, rows: Any) -> Self:
        if not isinstance(rows, slice):
            rows = self._places(rows)
        # As arrays: a table's column, for one, would look rows up by their names.
        return type(self)(as_array("images", self.images)[rows], as_array("labels", self.labels)[rows])

    def _places(self, rows: Any) -> Any:
        if isinstance(rows, list):
            rows = np.asarray(rows, None if rows else int)
        found = as_array("rows", rows) if hasattr(rows, "__array__") else None
        mask = found is not None and jnp.issubdtype(found.dtype, jnp.bool_)
        if found is None or found.ndim != 1 or not (mask or jnp.issubdtype(found.dtype, jnp.integer)):
            came = type(rows).__name__ if found is None else f"{found.dtype} {list(found.shape)}"
            raise TypeError(
                f"{type(self).__name__} take a slice, an array of places or a mask; got {came}; "
                "for one of them, use examples[i:i+1]"
            )
        count = len(self)
        if mask and len(found) != count:
            raise IndexError(f"a mask must have an entry for each of {count} examples; got {len(found)}")
        low, high = (0, -1) if mask else extremes(found)
        if found.size and (low < -count or high >= count):  # where JAX would take the nearest
            raise IndexError(f"places must be below {count}, the number of examples; got {low}..{high}")
        return found

    def __iter__(self) -> NoReturn:  # as a pair it would disagree with its own length
        raise TypeError(
            f"{type(self).__name__} can't be unpacked or iterated over; take its .images and its .labels"
        )


@jax.tree_util.register_dataclass
@dataclass(frozen=True, eq=False)
class Examples(_Labelled):
    """Labelled images to train or validate on.

    A pytree. `len` is their number; `examples[rows]` are some of them, by a slice, an array of places or a
    mask.

    Attributes:
        images: `[batch, 28, 28]`, uint8 0..255 or float32 0..1, white on black.
        labels: `[batch]`, any integer dtype, 0 to 9.
    """


@jax.tree_util.register_dataclass
@dataclass(frozen=True, eq=False)
class HeldOut(_Labelled):
    """A test set: the same arrays as `Examples` under another type, so that training cannot take it."""
