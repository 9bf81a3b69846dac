"""Removes what was printed: ruled lines, squares and boxes.

A printed line is straight, thin for its length, and even. It reaches the border of the picture or of the
paper, is one of several that are parallel, or the side of a box: a straight stroke alone is a pen's. Where a
stroke crosses it, the stroke stays.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import cv2
import numpy as np

from mnist_jax.data.preprocess.page.samples import median

SHORTEST = 0.22  # of the picture's shorter side
SLENDER = 22  # length over width, from which a line alone is printed; pen strokes have 10, thin ones 20
SIDE_OF_BOX = 6  # the same, for a line that joins two that were found
MOST_SEGMENTS = 400
RULED = 2  # parallel lines beside one that is printed
BEYOND = 0.05  # of the picture's shorter side: how far beyond its end a line is followed
COVERED = 0.6  # of a segment: it was removed with another
REACH = 2  # pixels by which a line may leave the straight


@dataclass(frozen=True, eq=False)
class Segment:
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


def printed_lines(mask: np.ndarray, tones: np.ndarray) -> np.ndarray:
    """The pixels of a mask that belong to printed lines, bool `[h, w]`, and a pixel around them.

    Args:
        mask: where there is ink, bool `[h, w]`.
        tones: of the picture, uint8 `[h, w]`, by which the edge of the paper is found.
    """
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
    slender, rest = _measured(mask, ends)
    if not slender:
        return printed
    others = [segment for segment in (_measure(mask, pair) for pair in rest) if segment is not None]
    sides = [segment for segment in others if _is_side(segment, slender)]
    lines = [
        segment
        for segment in slender
        if _reaches(segment, mask, tones)
        or sum(_is_parallel(segment, line) for line in slender) >= RULED
        or _meets(segment, slender + sides) == 2
    ]
    while more := [one for one in slender if one not in lines and _continues(one, lines)]:
        lines += more
    for segment in lines:
        _erase(printed, segment)
    for segment in sides:
        if _joins(printed, segment):
            _erase(printed, segment)
    return printed


def _measured(mask: np.ndarray, ends: np.ndarray) -> tuple[list[Segment], list[np.ndarray]]:
    """The slender segments, each once, and the ends of the others."""
    covered = np.zeros(mask.shape, bool)
    depth = cv2.distanceTransform(mask.astype(np.uint8), cv2.DIST_L2, 3)
    slender: list[Segment] = []
    rest: list[np.ndarray] = []
    for pair in ends:
        columns, rows = np.linspace(pair[0], pair[1], int(np.abs(pair[1] - pair[0]).max()) + 1).astype(int).T
        if covered[rows, columns].mean() > COVERED:
            continue
        # A run across is no shorter than a circle in it is wide: most segments, of strokes, end here.
        least = 2 * median(depth[rows, columns]) - 1
        segment = None if SLENDER * least > np.hypot(*(pair[1] - pair[0])) + 1 else _measure(mask, pair)
        if segment is not None and segment.slenderness >= SLENDER:
            _erase(covered, segment)
            slender.append(segment)
        else:
            rest.append(pair)
    return slender, rest


def _reaches(segment: Segment, mask: np.ndarray, tones: np.ndarray) -> bool:
    """Whether a line goes on to the border of the picture or of its paper, at one end at least."""
    height, width = mask.shape
    unit = (segment.ends[1] - segment.ends[0]) / np.linalg.norm(segment.ends[1] - segment.ends[0])
    across = np.array([-unit[1], unit[0]]) * (segment.width + 4)
    for end, outwards in ((segment.ends[0], -unit), (segment.ends[1], unit)):
        inside = end - outwards * 0.1 * len(segment.on)
        own, *beside = (_tone(tones, point) for point in (inside, inside + across, inside - across))
        paper = float(np.median(beside))
        for distance in range(3, max(9, round(BEYOND * min(mask.shape)))):
            x, y = np.rint(end + distance * outwards).astype(int)
            if not (1 < x < width - 2 and 1 < y < height - 2):
                return True
            if not mask[y, x] and abs(_tone(tones, (x, y)) - paper) > 0.6 * abs(own - paper):
                return True
    return False


def _tone(tones: np.ndarray, point: Iterable[float]) -> float:
    x, y = (round(value) for value in point)
    around = tones[max(0, y - 1) : y + 2, max(0, x - 1) : x + 2]
    return float(np.median(around)) if around.size else 0.0


def _is_parallel(segment: Segment, other: Segment) -> bool:
    """Whether another line has the same direction, and is as long and well apart, as on ruled paper."""
    apart = _apart(segment, other) > 6 * segment.width
    return _turn(segment, other) < 4 and apart and len(other.on) > 0.5 * len(segment.on)


def _continues(segment: Segment, lines: list[Segment]) -> bool:
    """Whether it is a piece of one of these lines, or ends at one at a right angle."""
    return _meets(segment, lines) > 0 or any(
        _turn(segment, line) < 4 and _apart(segment, line) < segment.width + line.width for line in lines
    )


def _meets(segment: Segment, others: list[Segment]) -> int:
    """At how many of its ends there are lines at right angles."""
    return sum(
        any(
            _turn(segment, other) > 86 and _distance(end, other.ends) < segment.width + other.width + 4
            for other in others
        )
        for end in segment.ends
    )


def _turn(segment: Segment, other: Segment) -> float:
    """The angle between them, 0 to 90 degrees."""
    return abs((segment.angle - other.angle + 90) % 180 - 90)


def _apart(segment: Segment, other: Segment) -> float:
    """Pixels from the middle of another piece to the straight line through this one."""
    vector = (segment.ends[1] - segment.ends[0]) / len(segment.on)
    offset = other.ends.mean(axis=0) - segment.ends[0]
    return float(abs(vector[0] * offset[1] - vector[1] * offset[0]))


def _distance(point: np.ndarray, ends: np.ndarray) -> float:
    """Of a point from a straight piece."""
    vector = (ends[1] - ends[0]).astype(float)
    share = np.clip((point - ends[0]) @ vector / max(1.0, vector @ vector), 0, 1)
    return float(np.linalg.norm(point - ends[0] - share * vector))


def _is_side(segment: Segment, lines: list[Segment]) -> bool:
    """Whether it is parallel or at right angles to a line, and about as wide, as the sides of a box are."""
    return segment.slenderness >= SIDE_OF_BOX and any(
        not 4 <= _turn(segment, line) <= 86 and segment.width < 2.6 * line.width for line in lines
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
