"""Splits two digits that touch, where that is plain: one thin bridge in the middle."""

from dataclasses import replace

import numpy as np

from mnist_jax.data.preprocess.page.digits import Digit
from mnist_jax.data.preprocess.page.strokes import Page, Stroke

WIDE = 1.5  # of its height: a wider shape is several digits
WIDER = 1.1  # of its height: a shape that is perhaps two digits
MIDDLE = 0.3, 0.7  # of its width, where it is cut
BRIDGE = 1.4  # of the pen's thickness: the highest bridge
NARROWEST = 0.2  # of its height, a digit


def is_wide(digit: Digit) -> bool:
    """Whether a shape is perhaps several digits."""
    left, top, right, bottom = digit.box
    return right - left > WIDER * (bottom - top)


def is_double(digit: Digit, usual: float) -> bool:
    """Whether a shape is as wide as two digits.

    Args:
        digit: perhaps several.
        usual: width of the digits on the page, in pixels.
    """
    left, top, right, bottom = digit.box
    return is_wide(digit) and right - left > min(WIDE * (bottom - top), 1.5 * usual)


def split(digit: Digit) -> tuple[Digit, ...]:
    """Both digits of a shape; the shape itself where it is not plain how to cut it."""
    left, top, right, bottom = digit.box
    own = digit.mask
    mask = own[top:bottom, left:right]
    first, last = (round(share * mask.shape[1]) for share in MIDDLE)
    heights = mask.sum(axis=0)
    runs = mask[0] + np.count_nonzero(mask[1:] & ~mask[:-1], axis=0)
    usable = np.flatnonzero((runs <= 1) & (heights <= BRIDGE * digit.heaviest.thickness))
    usable = usable[(usable >= first) & (usable < last)]
    if not usable.size:
        return (digit,)
    lowest = usable[heights[usable] <= 1.25 * heights[usable].min() + 1]
    column = int(lowest[lowest.size // 2])
    page, label = digit.page, digit.heaviest.label
    labels = page.labels.copy()
    other = int(labels.max()) + 1
    labels[own] = label
    labels[own & (np.arange(labels.shape[1]) >= left + column)] = other
    page = replace(page, labels=labels)
    parts = tuple(Digit((_part(digit.heaviest, number, page),), page) for number in (label, other))
    least = NARROWEST * (bottom - top)
    plain = all(part.heaviest.width >= least and part.heaviest.height >= 3 * least for part in parts)
    return parts if plain else (digit,)


def _part(stroke: Stroke, label: int, page: Page) -> Stroke:
    own = page.labels == label
    rows, columns = np.flatnonzero(own.any(axis=1)), np.flatnonzero(own.any(axis=0))
    return replace(
        stroke, label=label, left=int(columns[0]), top=int(rows[0]),
        width=int(columns[-1] - columns[0]) + 1, height=int(rows[-1] - rows[0]) + 1,
        area=int(np.count_nonzero(own)), weight=float(page.ink.values[own].sum()),
    )  # fmt: skip
