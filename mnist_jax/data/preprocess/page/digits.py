"""Groups strokes into digits, and says what speaks against a digit."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations

import cv2
import numpy as np

from mnist_jax.data.preprocess.page.outlines import fades, fill, near_lines, outline
from mnist_jax.data.preprocess.page.samples import median, quantile
from mnist_jax.data.preprocess.page.strokes import Page, Stroke

BLANK = "the picture must show a digit that stands out from the paper; got a blank one"
CUT = "the digit must lie inside the picture; got ink at its border; leave paper around the digit"
BLOB = 0.5  # of its size: a thicker shape is a punched hole or a stain
FAINT = 0.55  # of the strongest stroke's ink: what is fainter is a shadow
BROAD = 2.5  # of its thickness: from here on, a shape is broad
FAINTER = 0.85  # of its ink: a broad shape that is fainter is a shadow
PRINT = 0.5  # of the digit's height: smaller shapes apart from it are print
APART = 0.2  # of the digit's height
PRINTED = 0.12  # of a shape lies on printed lines: it is what is left of them
RECTANGLE = 0.86  # of its smallest rectangle: a shape that fills more is one
LONG = 3.2  # length over width, from which a rectangle may be a one
FEWEST_PIXELS = 10  # height of a digit that can be read


@dataclass(frozen=True)
class Digit:
    """The strokes of one digit.

    Attributes:
        strokes: one or more.
        page: where they are.
    """

    strokes: tuple[Stroke, ...]
    page: Page

    @property
    def box(self) -> tuple[int, int, int, int]:
        """Left, top, right, bottom, in pixels."""
        return (
            min(stroke.left for stroke in self.strokes),
            min(stroke.top for stroke in self.strokes),
            max(stroke.right for stroke in self.strokes),
            max(stroke.bottom for stroke in self.strokes),
        )

    @property
    def weight(self) -> float:
        """Sum of its ink."""
        return sum(stroke.weight for stroke in self.strokes)

    @property
    def heaviest(self) -> Stroke:
        """The stroke with most ink."""
        return max(self.strokes, key=lambda stroke: stroke.weight)

    @property
    def contrast(self) -> float:
        """Of its heaviest stroke, in gray levels."""
        return self.heaviest.contrast

    @property
    def paper(self) -> float:
        """The gray level around its heaviest stroke."""
        return self.heaviest.paper

    @property
    def mask(self) -> np.ndarray:
        """Its pixels, bool `[h, w]` of the page."""
        return np.isin(self.page.labels, [stroke.label for stroke in self.strokes])

    def ink(self) -> np.ndarray:
        """Its ink alone, float `[h, w]` in 0..1, with its soft edges."""
        labels, values, own = self.page.labels, self.page.ink.values, self.mask
        noise = median(self.page.ink.noise[own])
        reach = max(1, max(labels.shape) // 128)
        square = np.ones((2 * reach + 1, 2 * reach + 1), np.uint8)
        kept = (cv2.dilate(own.astype(np.uint8), square) > 0) & (own | (labels == 0))
        if noise < 0.5 / 255:  # a drawing or a scan: keep every gray level
            ink = np.where(values < 0.5 / 255, 0, values / values[own].max())
        else:
            faintest, full = max(3 * noise, 0.02), quantile(values[own], 0.6)
            ink = np.clip((values - faintest) / (full - faintest), 0, 1)
        left, top, right, bottom = self.box
        margin = reach + 1
        part = slice(max(0, top - margin), bottom + margin), slice(max(0, left - margin), right + margin)
        return np.where(kept, ink, 0)[part]


def candidates(page: Page, strokes: Iterable[Stroke], lightest: float = 0.05) -> list[Stroke]:
    """The strokes that may belong to a digit: no blobs, and none much fainter than the heaviest.

    Args:
        page: where they are.
        strokes: some of its strokes.
        lightest: the least weight, of the heaviest stroke's.
    """
    good = [stroke for stroke in strokes if page.tiny or stroke.thickness <= BLOB * stroke.size]
    if not good:
        return []
    heaviest = max(good, key=lambda stroke: stroke.weight)
    good = [stroke for stroke in good if stroke.weight > lightest * heaviest.weight]
    if page.tiny:
        return [stroke for stroke in good if stroke.strength > 0.5 * heaviest.strength]
    pen = max(good, key=lambda stroke: stroke.strength)
    return [
        stroke
        for stroke in good
        if stroke.strength > (FAINT if stroke.thickness < BROAD * pen.thickness else FAINTER) * pen.strength
    ]


def without_print(page: Page, strokes: Sequence[Stroke]) -> list[Stroke]:
    """The strokes without small print: far smaller shapes that lie apart from the tallest one."""
    if page.tiny:
        return list(strokes)
    tallest = max(strokes, key=lambda stroke: stroke.height)
    return [
        stroke
        for stroke in strokes
        if stroke.size > PRINT * tallest.height or max(tallest.gaps(stroke)) < APART * tallest.height
    ]


def doubt(digit: Digit, cut: Sequence[Stroke]) -> str:
    """What speaks against it being one whole digit; empty if nothing does.

    Args:
        digit: all candidates, as one.
        cut: the candidates that touch the picture's border, and are not in it.
    """
    left, top, right, bottom = digit.box
    width, height = right - left, bottom - top
    tall = max(stroke.height for stroke in digit.strokes)
    for one, other in combinations(digit.strokes, 2):
        across, down = one.gaps(other)
        side_by_side = min(one.height, other.height) >= 0.6 * height and -across < 0.25 * min(
            one.width, other.width
        )
        stacked = min(one.height, other.height) >= 0.25 * height and down > 0.05 * height
        if side_by_side or stacked or down > 0.35 * tall or across > 0.5 * tall:
            return (
                f"the picture must show one digit; got {len(digit.strokes)} separate shapes; "
                "cut it into one picture each, or read all with --several"
            )
    if len(digit.strokes) == 1 and not digit.page.tiny and _rectangular(digit.page, digit.heaviest):
        return "the picture must show a digit; got a rectangle, such as a reflection or a label"
    if not digit.page.tiny and fades(digit.page, digit.heaviest):
        return "the picture must show a digit; got a soft or uneven shape, such as a shadow; is it in focus?"
    if near_lines(digit.page, digit.heaviest) > PRINTED:
        return BLANK
    if width > 1.8 * height:
        return "the picture must show one digit; got a shape much wider than high; is it rotated?"
    if height < FEWEST_PIXELS:
        return f"a digit must be at least {FEWEST_PIXELS} pixels high; got {height}; take it from nearer by"
    for stroke in cut:
        strong = stroke.strength > FAINT * digit.heaviest.strength
        near = max(digit.heaviest.gaps(stroke)) < height
        if strong and stroke.weight > (0.4 if near else 3) * digit.weight:
            return CUT
    return ""


def _rectangular(page: Page, stroke: Stroke) -> bool:
    """Whether a shape is a rectangle, and no stroke as long as a one."""
    contour = outline(page, stroke)
    _, sides, _ = cv2.minAreaRect(contour)
    return fill(contour) > RECTANGLE and max(sides) < LONG * min(sides)
