"""What tests ask of pytrees."""

import jax
import numpy as np


def leaves_close(ours: object, theirs: object, tolerance: float = 1e-6) -> None:
    """Fails unless two trees are the same, but for so much in each number, absolutely and in proportion."""
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=tolerance, atol=tolerance), ours, theirs)


def leaves_equal(ours: object, theirs: object) -> bool:
    """Whether two trees are the same, bit for bit."""
    return jax.tree.all(jax.tree.map(np.array_equal, ours, theirs))
