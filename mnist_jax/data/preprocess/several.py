"""Reads all digits of a picture, in reading order."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from PIL import Image

from mnist_jax.data.preprocess.framing import frame
from mnist_jax.data.preprocess.page import digits
from mnist_jax.data.preprocess.page.digits import Digit
from mnist_jax.data.preprocess.page.ink import as_channels
from mnist_jax.data.preprocess.page.sheet import straightened
from mnist_jax.data.preprocess.page.strokes import Page, Stroke
from mnist_jax.data.preprocess.pipeline import best_page, page_steps
from mnist_jax.data.preprocess.reading import as_rgb, reduced
from mnist_jax.data.preprocess.touching import is_double, is_wide, split
from mnist_jax.errors import ImageError

RULE = 1.5  # of the usual height: a wider flat stroke is the line under a sum
LOWEST = 0.45  # of the usual height: a lower shape is a part of a digit, or none


@dataclass(frozen=True)
class FoundDigit:
    """A digit on a page.

    Attributes:
        image: uint8 `[28, 28]`.
        row: the number of its row, from 0.
        box: left, top, right, bottom, as shares of the picture's width and height, 0..1; of its opaque
            part, where there is one.
        doubt: why this may not be one digit; empty if nothing speaks against it.
    """

    image: np.ndarray
    row: int
    box: tuple[float, float, float, float]
    doubt: str


@dataclass(frozen=True)
class PagePreparation:
    """What was done with a picture of several digits.

    Attributes:
        digits: in reading order.
        doubt: why there are none; empty otherwise.
        steps: the picture after each step, uint8 `[h, w]` or `[h, w, 3]`.
    """

    digits: tuple[FoundDigit, ...]
    doubt: str
    steps: dict[str, np.ndarray] = field(default_factory=dict)


def prepare_all(picture: Image.Image | np.ndarray) -> list[FoundDigit]:
    """Preprocess all digits of a picture, such as a telephone number or a column of numbers.

    Args:
        picture: as for `prepare`.

    Returns:
        The digits in reading order: row by row from the top, each from the left.

    Raises:
        ImageError: if it is no picture, or shows no digit.

    Examples:
        >>> import numpy as np
        >>> from mnist_jax import preprocess
        >>> page = np.full((120, 200), 240, np.uint8)
        >>> page[30:90, 60:66] = page[30:90, 120:126] = 30
        >>> [(digit.row, round(digit.box[0], 2)) for digit in preprocess.prepare_all(page)]
        [(0, 0.3), (0, 0.6)]
    """
    preparation = examine_all(picture)
    if preparation.doubt:
        raise ImageError(preparation.doubt)
    return list(preparation.digits)


def examine_all(picture: Image.Image | np.ndarray) -> PagePreparation:
    """Preprocess all digits of a picture, and say what was done.

    Args:
        picture: as for `prepare`.

    Raises:
        ImageError: if it is no picture.

    Examples:
        >>> import numpy as np
        >>> from mnist_jax import preprocess
        >>> list(preprocess.examine_all(np.full((90, 60), 240, np.uint8)).steps)
        ['picture', 'ink', 'without lines']
    """
    whole = reduced(as_rgb(picture))
    page, strokes, reason = best_page(as_channels(whole))
    found = _found(page, strokes)
    doubt = "" if found else reason or digits.BLANK
    return PagePreparation(tuple(found), doubt, {"picture": whole} | page_steps(page))


def _found(page: Page, strokes: Sequence[Stroke]) -> list[FoundDigit]:
    height, width = page.labels.shape
    inside = [stroke for stroke in strokes if not stroke.at_border]
    found = digits.candidates(page, inside, lightest=0.02)
    if not found:
        return []
    usual = float(np.median([stroke.height for stroke in found if stroke.height > 0.5 * _tallest(found)]))
    found = [stroke for stroke in found if stroke.width < RULE * usual or stroke.height > 0.5 * usual]
    result = []
    rows = _rows(_grouped(found, usual), page, usual)
    usual_width = float(np.median([digit.box[2] - digit.box[0] for row in rows for digit in row]))
    for number, row in enumerate(rows):
        for shape in row:
            parts = split(shape) if is_double(shape, usual_width) else (shape,)
            for digit in parts:
                left, top, right, bottom = digit.box
                box = left / width, top / height, right / width, bottom / height
                doubt = "digits must not touch; got a shape as wide as several" if is_wide(digit) else ""
                result.append(FoundDigit(frame(straightened(digit)), number, box, doubt))
    return result


def _tallest(strokes: Sequence[Stroke]) -> int:
    return max(stroke.height for stroke in strokes)


def _grouped(strokes: Sequence[Stroke], usual: float) -> list[list[Stroke]]:
    """Joins the strokes of one digit: above each other and near, such as the two strokes of a five."""
    groups: list[list[Stroke]] = []
    for stroke in sorted(strokes, key=lambda stroke: -stroke.area):
        near = next(
            (group for group in groups if any(_belong(stroke, other, usual) for other in group)), None
        )
        if near is None:
            groups.append([stroke])
        else:
            near.append(stroke)
    return [group for group in groups if _extent(group) >= LOWEST * usual]


def _extent(group: Sequence[Stroke]) -> int:
    return max(stroke.bottom for stroke in group) - min(stroke.top for stroke in group)


def _belong(one: Stroke, other: Stroke, usual: float) -> bool:
    across, down = one.gaps(other)
    overlap = -across > 0.4 * min(one.width, other.width)
    low = min(one.height, other.height) < 0.6 * usual
    return low and ((overlap and down < 0.15 * usual) or (down < 0 and across < 0.06 * usual))


def _rows(groups: Sequence[Sequence[Stroke]], page: Page, usual: float) -> list[list[Digit]]:
    """Chains each digit to the next on its right, so that slanted rows stay together."""
    whole = sorted((Digit(tuple(group), page) for group in groups), key=lambda digit: digit.box[0])
    rows: list[list[Digit]] = []
    for digit in whole:
        x, y = _center(digit)
        fits = [row for row in rows if _continues(_center(row[-1]), x, y, usual)]
        if fits:
            min(fits, key=lambda row: abs(_center(row[-1])[1] - y)).append(digit)
        else:
            rows.append([digit])
    slopes = [
        (b[1] - a[1]) / max(1.0, b[0] - a[0])
        for row in rows
        for a, b in zip(map(_center, row), map(_center, row[1:]), strict=False)
    ]
    slope = float(np.median(slopes)) if slopes else 0.0
    return sorted(rows, key=lambda row: float(np.mean([y - slope * x for x, y in map(_center, row)])))


def _continues(last: tuple[float, float], x: float, y: float, usual: float) -> bool:
    return abs(y - last[1]) < 0.65 * usual and x - last[0] < 3.5 * usual


def _center(digit: Digit) -> tuple[float, float]:
    left, top, right, bottom = digit.box
    return (left + right) / 2, (top + bottom) / 2
