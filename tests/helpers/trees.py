"""Comparison of pytrees."""

import jax
import numpy as np


def leaves_close(ours: object, theirs: object, tolerance: float = 1e-6) -> None:
    """Assert that two trees are equal within an absolute and relative tolerance."""
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=tolerance, atol=tolerance), ours, theirs)


def leaves_equal(ours: object, theirs: object) -> bool:
    """Whether two trees are equal, bit for bit."""
    return jax.tree.all(jax.tree.map(np.array_equal, ours, theirs))
