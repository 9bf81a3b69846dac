"""Containers for labeled images: training and validation sets, and the test set."""

from dataclasses import dataclass
from typing import Any, NoReturn, Self

import jax
import jax.numpy as jnp
import numpy as np

from mnist_jax.config.input_checks import as_array, extremes
from mnist_jax.types import Images, Labels


@dataclass(frozen=True, eq=False)
class _Labeled:
    """Images and their labels, unchecked: the functions that use them validate them."""

    images: Images
    labels: Labels

    def __len__(self) -> int:
        return len(self.labels)

    def __repr__(self) -> str:
        arrays = (("images", self.images), ("labels", self.labels))
        shown = (f"{name}={_described(array)}" for name, array in arrays)
        return f"{type(self).__name__}({', '.join(shown)})"

    def __getitem__(self, rows: Any) -> Self:
        if not isinstance(rows, slice):
            rows = self._indices(rows)
        # Convert first: a table column, for example, would index by row names.
        return type(self)(as_array("images", self.images)[rows], as_array("labels", self.labels)[rows])

    def _indices(self, rows: Any) -> Any:
        if isinstance(rows, list):
            rows = np.asarray(rows, None if rows else int)
        indices = as_array("rows", rows) if hasattr(rows, "__array__") else None
        mask = indices is not None and jnp.issubdtype(indices.dtype, jnp.bool_)
        if indices is None or indices.ndim != 1 or not (mask or jnp.issubdtype(indices.dtype, jnp.integer)):
            got = type(rows).__name__ if indices is None else f"{indices.dtype} {list(indices.shape)}"
            raise TypeError(
                f"{type(self).__name__} must be indexed by a slice, an integer array or a mask; got {got}; "
                "for a single example, use examples[i:i+1]"
            )
        count = len(self)
        if mask and len(indices) != count:
            raise IndexError(f"a mask must have an entry for each of {count} examples; got {len(indices)}")
        low, high = (0, -1) if mask else extremes(indices)
        if indices.size and (low < -count or high >= count):  # JAX would clamp them
            raise IndexError(f"indices must be below {count}, the number of examples; got {low}..{high}")
        return indices

    def __iter__(self) -> NoReturn:  # unpacking as a pair would contradict `len`
        raise TypeError(f"{type(self).__name__} can't be unpacked or iterated over; use .images and .labels")


def _described(array: Any) -> str:
    """The dtype and shape of an array, or the type of what else is in its place."""
    shape, dtype = getattr(array, "shape", None), getattr(array, "dtype", None)
    return f"{dtype}{list(shape)}" if isinstance(shape, tuple) else type(array).__name__


@jax.tree_util.register_dataclass
@dataclass(frozen=True, eq=False, repr=False)
class Examples(_Labeled):
    """Labeled images for training or validation.

    A pytree. `len(examples)` is the number of examples; `examples[rows]` selects some of them by a slice, an
    integer array or a boolean mask.

    Attributes:
        images: `[batch, 28, 28]`, uint8 0..255 or float32 0..1, white on black.
        labels: `[batch]`, any integer dtype, from 0.

    Examples:
        >>> import numpy as np
        >>> from mnist_jax import Examples
        >>> examples = Examples(np.zeros((3, 28, 28), np.uint8), np.array([7, 2, 1]))
        >>> len(examples), examples[[2, 0]].labels.tolist()
        (3, [1, 7])
    """


@jax.tree_util.register_dataclass
@dataclass(frozen=True, eq=False, repr=False)
class TestSet(_Labeled):
    """A test set: the arrays of `Examples` under another type, which training functions do not accept.

    Attributes:
        images: as in `Examples`.
        labels: as in `Examples`.

    Examples:
        >>> import numpy as np
        >>> from mnist_jax import Examples, TestSet
        >>> test = TestSet(np.zeros((3, 28, 28), np.uint8), np.array([7, 2, 1]))
        >>> len(test), isinstance(test, Examples)
        (3, False)
    """
