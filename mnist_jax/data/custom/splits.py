"""Stratified splits, and images that training and test set share."""

import numpy as np

from mnist_jax.errors import DatasetError


def stratified(
    labels: np.ndarray, fraction: float, seed: int, *, at_least: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Split examples at random so that each class has its share in both parts.

    Args:
        labels: class numbers, `[n]`.
        fraction: share of the second part, in [0, 1).
        seed: seed of the choice.
        at_least: examples of each class in the second part.

    Returns:
        The indices of both parts, increasing. The first has at least one example of each class.

    Raises:
        DatasetError: if a class has too few examples.
    """
    counts = np.bincount(labels)
    quotas = counts * fraction
    chosen = np.clip(np.floor(quotas).astype(int), at_least, np.maximum(counts - 1, 0))
    if (short := np.flatnonzero((counts > 0) & (counts <= at_least))).size:
        raise DatasetError(
            f"each class must have at least {at_least + 1} examples, one of them for the test set; got "
            f"{counts[short[0]]} of class {short[0]}; add some, or give a test set"
        )
    # The rest, to reach the share of the whole, goes to the classes with the largest remainders.
    order = np.argsort(-(quotas - chosen), kind="stable")
    room = order[(chosen < counts - 1)[order]]
    missing = max(0, round(len(labels) * fraction) - int(chosen.sum()))
    chosen[room[:missing]] += 1
    shuffled = np.random.default_rng(seed).permutation(len(labels))
    by_class = shuffled[np.argsort(labels[shuffled], kind="stable")]
    starts = np.cumsum(counts) - counts
    rank = np.arange(len(labels)) - starts[labels[by_class]]
    second = by_class[rank < chosen[labels[by_class]]]
    first = by_class[rank >= chosen[labels[by_class]]]
    return np.sort(first), np.sort(second)


def count_shared(train: np.ndarray, test: np.ndarray) -> int:
    """Count the test images, uint8 `[n, 28, 28]`, that are also among the training images."""
    known = {hash(image.tobytes()) for image in train}
    return sum(hash(image.tobytes()) in known for image in test)
