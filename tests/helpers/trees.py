"""Comparison of pytrees."""

import jax
import numpy as np


def leaves_close(ours: object, theirs: object, tolerance: float = 1e-6) -> None:
    """Assert that two trees are equal within an absolute and relative tolerance."""
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=tolerance, atol=tolerance), ours, theirs)


def leaves_equal(ours: object, theirs: object) -> bool:
    """Whether two trees are equal, bit for bit."""
    return jax.tree.all(jax.tree.map(np.array_equal, ours, theirs))


def largest_difference(ours: object, theirs: object) -> float:
    """The largest difference of two elements of two trees, on whatever devices they are."""
    differences = jax.tree.map(lambda x, y: np.abs(np.asarray(x) - np.asarray(y)).max(), ours, theirs)
    return float(max(jax.tree.leaves(differences)))
