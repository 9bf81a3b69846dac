"""Removes what was printed: ruled lines, squares and boxes.

A printed line is straight, thin for its length, and even. Where a stroke crosses it, the stroke stays.
"""

from typing import NamedTuple

import cv2
import numpy as np

from mnist_jax.data.preprocess.page.samples import median

SHORTEST = 0.22  # of the picture's shorter side
SLENDER = 22  # length over width, from which a line alone is printed; pen strokes have 10, thin ones 20
SIDE_OF_BOX = 6  # the same, for a line that joins two that were found
MOST_SEGMENTS = 400
COVERED = 0.6  # of a segment: it was removed with another
REACH = 2  # pixels by which a line may leave the straight


class Segment(NamedTuple):
    """A straight piece of a mask.

    Attributes:
        ends: x and y of both ends, int `[2, 2]`.
        angle: in degrees, from 0 to 180.
        width: median width across it, in pixels.
        rows: of the pixels across it, int `[length, n]`.
        columns: likewise.
        across: which of these belong to the run of the mask through the line, bool `[length, n]`.
        on: where along it the mask is set, bool `[length]`.
    """

    ends: np.ndarray
    angle: float
    width: float
    rows: np.ndarray
    columns: np.ndarray
    across: np.ndarray
    on: np.ndarray

    @property
    def slenderness(self) -> float:
        """Length over width."""
        return len(self.on) / self.width


def printed_lines(mask: np.ndarray) -> np.ndarray:
    """The pixels of a mask that belong to printed lines, bool `[h, w]`, and a pixel around them."""
    shortest = max(24, int(SHORTEST * min(mask.shape)))
    found = cv2.HoughLinesP(
        mask.astype(np.uint8), 1, np.pi / 360, threshold=max(20, shortest // 2),
        minLineLength=shortest, maxLineGap=max(3, 0.08 * shortest),
    )  # fmt: skip
    printed = np.zeros(mask.shape, bool)
    if found is None:
        return printed
    ends = found.reshape(-1, 2, 2)
    ends = ends[np.argsort(-np.linalg.norm(ends[:, 1] - ends[:, 0], axis=1))][:MOST_SEGMENTS]
    depth = cv2.distanceTransform(mask.astype(np.uint8), cv2.DIST_L2, 3)
    rest: list[np.ndarray] = []
    lines: list[Segment] = []
    for pair in ends:
        columns, rows = np.linspace(pair[0], pair[1], int(np.abs(pair[1] - pair[0]).max()) + 1).astype(int).T
        if printed[rows, columns].mean() > COVERED:
            continue
        # A run across is no shorter than a circle in it is wide: most segments, of strokes, end here.
        least = 2 * median(depth[rows, columns]) - 1
        segment = None if SLENDER * least > np.hypot(*(pair[1] - pair[0])) + 1 else _measure(mask, pair)
        if segment is not None and segment.slenderness >= SLENDER:
            _erase(printed, segment)
            lines.append(segment)
        else:
            rest.append(pair)
    for pair in rest if lines else ():
        segment = _measure(mask, pair)
        if segment is not None and _is_side(segment, lines) and _joins(printed, segment):
            _erase(printed, segment)
    return printed


def _is_side(segment: Segment, lines: list[Segment]) -> bool:
    """Whether it is at right angles to a line, and about as wide, as the sides of a box are."""
    return segment.slenderness >= SIDE_OF_BOX and any(
        min((segment.angle - line.angle) % 90, (line.angle - segment.angle) % 90) < 4
        and segment.width < 2.6 * line.width
        for line in lines
    )


def _measure(mask: np.ndarray, ends: np.ndarray) -> Segment | None:
    """The run of the mask across each point of a segment; None where the mask does not follow it."""
    height, width = mask.shape
    vector = (ends[1] - ends[0]).astype(float)
    length = float(np.hypot(*vector))
    along = ends[0] + np.linspace(0, 1, round(length) + 1)[:, None] * vector
    reach = max(10, int(length / 12))
    offsets = np.arange(-reach, reach + 1)
    columns = np.rint(along[:, :1] - vector[1] / length * offsets).astype(int).clip(0, width - 1)
    rows = np.rint(along[:, 1:] + vector[0] / length * offsets).astype(int).clip(0, height - 1)
    profile = mask[rows, columns]
    near = profile[:, reach - REACH : reach + REACH + 1]
    on = near.any(axis=1)
    if on.mean() < 0.75:
        return None
    order = sorted(range(-REACH, REACH + 1), key=abs)  # start at the set pixel that is nearest to the line
    start = reach + np.array(order)[np.argmax(profile[:, [reach + at for at in order]], axis=1)]
    position = np.arange(profile.shape[1])
    before = np.where(~profile & (position < start[:, None]), position, -1).max(axis=1)
    after = np.where(~profile & (position > start[:, None]), position, len(position)).min(axis=1)
    across = (position > before[:, None]) & (position < after[:, None]) & on[:, None]
    angle = float(np.degrees(np.arctan2(vector[1], vector[0])) % 180)
    return Segment(ends, angle, median((after - before - 1)[on]), rows, columns, across, on)


def _erase(printed: np.ndarray, segment: Segment) -> None:
    """Adds a segment to what was printed, but where a stroke crosses it."""
    runs = segment.across.sum(axis=1)
    thin = segment.on & (runs <= 1.6 * segment.width + 1)
    if thin.mean() < 0.5:
        return
    wider = segment.across.copy()
    wider[:, 1:] |= segment.across[:, :-1]
    wider[:, :-1] |= segment.across[:, 1:]
    wider &= thin[:, None]
    printed[segment.rows[wider], segment.columns[wider]] = True


def _joins(printed: np.ndarray, segment: Segment) -> bool:
    """Whether there are printed lines at both ends."""
    reach = int(segment.width + 4)
    return all(
        printed[max(0, y - reach) : y + reach + 1, max(0, x - reach) : x + reach + 1].any()
        for x, y in segment.ends
    )
