"""Connected strokes of ink, and whether each lies on paper."""

from dataclasses import dataclass

import cv2
import numpy as np

from mnist_jax.data.preprocess.page.ink import DARKEST_PAPER, LIGHT_SCALE, Ink
from mnist_jax.data.preprocess.page.printed import printed_lines
from mnist_jax.data.preprocess.page.samples import median, quantile, sample

FAINTEST = 0.07  # the least ink, of the values in `Ink`; 5 times the noise where that is more
CLEAREST = 0.4  # of the ink's usual value: from here on, a pixel is looked at
SPECK = 0.03  # of the picture's longer side, and at most 9 pixels: a smaller shape is a speck
MOST = 150  # strokes that are looked at, the largest ones
TINY = 64  # pixels on the longer side: a picture like MNIST's own, every gray level of which counts
# Of the ink, by which the paper on both sides may differ. The lit part of a sheet looks like light ink.
DARK_SIDES, LIGHT_SIDES = 1.0, 0.5
RING = 10  # pixels around a stroke that are looked at


@dataclass(frozen=True)
class Stroke:
    """A connected component of ink.

    Attributes:
        label: its number in `Page.labels`.
        left, top, width, height: its bounding box, in pixels.
        area: in pixels.
        weight: sum of its ink.
        strength: typical ink of its pixels.
        thickness: diameter of the largest circle in it.
        tone: its gray level, 0..255.
        paper: the gray level around it.
        at_border: whether it touches the picture's border.
    """

    label: int
    left: int
    top: int
    width: int
    height: int
    area: int
    weight: float
    strength: float
    thickness: float
    tone: float
    paper: float
    at_border: bool

    @property
    def size(self) -> int:
        """The longer side of its bounding box."""
        return max(self.width, self.height)

    @property
    def right(self) -> int:
        """The first column beyond it."""
        return self.left + self.width

    @property
    def bottom(self) -> int:
        """The first row beyond it."""
        return self.top + self.height

    def gaps(self, other: "Stroke") -> tuple[int, int]:
        """Pixels between the boxes of two strokes, across and down; negative where they overlap."""
        across = max(self.left, other.left) - min(self.right, other.right)
        return across, max(self.top, other.top) - min(self.bottom, other.bottom)

    @property
    def contrast(self) -> float:
        """Between it and its paper, in gray levels."""
        return abs(self.tone - self.paper)


@dataclass(frozen=True)
class Page:
    """The strokes of one polarity in a picture.

    Attributes:
        ink: where they were found.
        lines: what was printed and is left out, bool `[h, w]`.
        labels: the number of the component at each pixel, int `[h, w]`; 0 on paper.
        strokes: those that lie on paper.
        filled: whether ink covers most of the picture, so that nothing can be said.
    """

    ink: Ink
    lines: np.ndarray
    labels: np.ndarray
    strokes: tuple[Stroke, ...]
    filled: bool = False

    @property
    def tiny(self) -> bool:
        """Whether the picture is like MNIST's own: no table, shadow or print in it."""
        return bool(max(self.labels.shape) <= TINY)

    def own(self, stroke: Stroke) -> np.ndarray:
        """The pixels of a stroke in its box, bool `[height, width]`."""
        box = self.labels[stroke.top : stroke.bottom, stroke.left : stroke.right]
        return np.asarray(box == stroke.label)


def find_strokes(ink: Ink) -> Page:
    """The strokes in a picture, without printed lines.

    Args:
        ink: of one polarity. Where its paper is known to be even, there are no printed lines.
    """
    values, shape = ink.values, ink.values.shape
    nothing = np.zeros(shape, bool)
    faintest = np.maximum(5 * ink.noise, FAINTEST)
    visible = values > faintest
    if np.count_nonzero(visible) < 8:
        return Page(ink, nothing, np.zeros(shape, np.int32), ())
    if max(shape) <= TINY:
        return _components(ink, values > 0.1 * float(values.max()), nothing)
    mask = values > np.maximum(faintest, CLEAREST * quantile(values[visible], 0.9))
    if mask.mean() > (0.5 if ink.paper is None else 0.65):
        return Page(ink, nothing, np.zeros(shape, np.int32), (), filled=True)
    lines = printed_lines(mask, ink.tones) if ink.paper is None else nothing
    if lines.any() and (mask & ~lines).any():  # the usual value of ink, not of lines
        mask = values > np.maximum(faintest, CLEAREST * quantile(values[mask & ~lines], 0.9))
        lines = printed_lines(mask, ink.tones)
    mask &= ~lines
    if mask.any():
        mask &= values > 0.5 * quantile(values[mask], 0.9)
    return _components(ink, mask, lines)


def _components(ink: Ink, mask: np.ndarray, lines: np.ndarray) -> Page:
    _, labels, boxes, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=8)
    depth = cv2.distanceTransform(mask.astype(np.uint8), cv2.DIST_L2, 3)
    smallest = min(9.0, SPECK * max(mask.shape))
    whole = np.flatnonzero(boxes[:, cv2.CC_STAT_WIDTH : cv2.CC_STAT_HEIGHT + 1].max(axis=1) >= smallest)
    largest = sorted(whole[whole > 0], key=lambda label: -boxes[label, cv2.CC_STAT_AREA])[:MOST]
    strokes = (_on_paper(ink, labels, label, boxes[label], depth, lines) for label in sorted(largest))
    return Page(ink, lines, labels, tuple(stroke for stroke in strokes if stroke is not None))


def _on_paper(
    ink: Ink, labels: np.ndarray, label: int, box: np.ndarray, depth: np.ndarray, lines: np.ndarray
) -> Stroke | None:
    """The stroke of a component; None for a gap between strokes, or where there is no paper on both sides."""
    left, top, width, height, area = (int(value) for value in box)
    bottom, right = top + height, left + width
    own = labels[top:bottom, left:right] == label
    values = ink.values[top:bottom, left:right][own]
    tone = median(ink.tones[top:bottom, left:right][own])
    thickness = 2 * float(depth[top:bottom, left:right][own].max())

    paper = ink.paper
    if paper is None:
        paper = _paper(ink, labels, label, box, lines, tone, median(values), thickness)
    if paper is None:
        return None
    border = left == 0 or top == 0 or right == labels.shape[1] or bottom == labels.shape[0]
    border &= ink.paper is None  # else paper goes on beyond it
    return Stroke(
        label, left, top, width, height, area, float(values.sum()), quantile(values, 0.8),
        thickness, tone if ink.dark else 255 - tone, paper if ink.dark else 255 - paper, border,
    )  # fmt: skip


def _paper(
    ink: Ink, labels: np.ndarray, label: int, box: np.ndarray, lines: np.ndarray, tone: float,
    usual: float, thickness: float,
) -> float | None:  # fmt: skip
    """The tone of the paper around a component; None for a gap or where there is none on both sides.

    `tone` and `usual` are the medians of the component's tones and of its ink.
    """
    left, top, width, height, _ = (int(value) for value in box)
    bottom, right = top + height, left + width

    # A gap between strokes looks like ink of the other polarity, but has the tone of the paper far around.
    reach = max(8, round(0.7 * max(width, height)))
    around = ink.tones[max(0, top - reach) : bottom + reach, max(0, left - reach) : right + reach]
    middle = median(sample(around))
    expected = usual * (max(middle, DARKEST_PAPER) if ink.dark else LIGHT_SCALE)
    if middle - tone < 0.5 * expected:
        return None

    rows, columns = slice(max(0, top - RING), bottom + RING), slice(max(0, left - RING), right + RING)
    mine = labels[rows, columns] == label
    near = cv2.dilate(mine.astype(np.uint8), np.ones((5, 5), np.uint8)) > 0
    ring = cv2.dilate(mine.astype(np.uint8), np.ones((13, 13), np.uint8)) > 0
    ring &= ~near & (labels[rows, columns] == 0) & ~lines[rows, columns]
    if np.count_nonzero(ring) < 8:
        return None
    if (ink.values[rows, columns][ring] < 0.5 * usual).mean() < 0.85:
        return None
    # The strip along an edge has paper on one side and something else on the other, all along it.
    tones = ink.tones[rows, columns]
    square = np.ones((int(thickness + 14) | 1,) * 2, np.uint8)
    brightest = cv2.dilate(np.where(ring, tones, 0).astype(np.uint8), square).astype(int)
    darkest = cv2.erode(np.where(ring, tones, 255).astype(np.uint8), square).astype(int)
    if median((brightest - darkest)[mine]) > (DARK_SIDES if ink.dark else LIGHT_SIDES) * expected:
        return None
    return median(tones[ring])
