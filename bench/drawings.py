"""Digits drawn freehand, as strokes: 43 ways of writing them, each drawn five times.

They are made up, not collected: each way is a handful of points that a pen passes through, and each drawing
of it has a slant, a size, a place, a thickness and an unsteady hand of its own. The set was frozen, by its
sum, before any network was asked about it, and nothing is ever chosen by it.
"""

import hashlib
import json
import math
import random
from collections.abc import Iterator
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw

SIDE = 280  # of the paper, in pixels
FINER = 4  # lines are drawn so much larger, and shrunk: that smooths their edges
PER_WAY = 5
SHA256 = "aee96bb503ceacf78ca024230519201e3e70adae1e9cfaf66c44a9fd05aa817a"

# Points of a box of 100 x 100, x before y, from the top left. The pen goes through them in a smooth curve,
# with a corner where one is named twice; a bar lifts it.
WAYS = {
    0: (
        "50 5  20 25  15 50  22 78  50 95  78 78  85 50  78 22  50 5",
        "70 12  45 5  18 30  18 70  50 95  82 70  82 30  62 8",
        "50 5  32 25  30 70  50 95  70 70  68 25  50 5",
        "45 10  15 45  45 90  85 55  60 10  35 15",
    ),
    1: (
        "50 5  50 95",
        "30 25  52 5  52 5  52 95",
        "30 25  52 5  52 5  52 95 | 28 95  76 95",
        "15 50  55 5  55 5  55 95",
        "62 5  40 95",
    ),
    2: (
        "20 25  35 8  60 5  78 22  70 48  40 75  18 95  18 95  82 95",
        "20 28  40 6  75 15  72 45  35 85  20 90  28 76  50 88  82 94",
        "20 20  50 5  78 25  20 92  20 92  85 90",
        "22 22  50 4  76 26  55 58  20 90  45 82  85 92",
    ),
    3: (
        "22 12  50 5  75 22  45 46  45 46  80 68  55 95  18 85",
        "22 8  78 8  78 8  45 42  45 42  82 68  52 96  18 84",
        "20 20  45 4  72 22  48 45  40 46  50 47  80 70  48 96  16 80",
        "22 15  55 4  74 24  50 46  42 50  50 44  78 66  50 95  20 88",
    ),
    4: (
        "25 5  18 55  18 55  82 55 | 65 20  65 95",
        "65 95  65 5  65 5  15 65  15 65  88 65",
        "40 5  15 60  15 60  85 58 | 70 30  62 95",
        "68 5  20 60  20 60  85 60 | 60 35  60 95",
        "22 8  24 45  45 52  75 45 | 78 8  72 95",
    ),
    5: (
        "75 8  28 8  28 8  24 45  24 45  55 38  80 62  60 92  20 88",
        "28 8  24 44  24 44  60 38  80 65  55 95  18 86 | 28 8  80 6",
        "76 10  40 8  26 25  40 42  70 56  72 80  45 95  18 86",
        "80 5  25 5  25 5  25 45  25 45  70 45  78 70  60 95  20 92",
    ),
    6: (
        "65 5  30 40  20 70  45 95  75 78  60 55  28 65",
        "60 5  25 60  35 92  70 88  72 62  45 55  25 68",
        "75 12  50 5  25 35  20 70  48 95  78 75  55 52  24 66",
        "40 5  24 50  25 85  55 95  75 75  50 58  25 75",
    ),
    7: (
        "18 10  82 10  82 10  40 95",
        "18 10  82 10  82 10  40 95 | 30 52  72 52",
        "18 25  20 10  20 10  80 10  80 10  45 95",
        "15 12  50 14  84 8  84 8  60 45  50 95",
        "18 25  20 10  20 10  80 10  80 10  45 95 | 35 52  75 50",
    ),
    8: (
        "70 18  45 5  25 22  50 46  78 72  50 95  22 74  48 48  74 26  62 8",
        "50 5  28 24  50 46  72 24  50 5 | 50 46  22 72  50 96  78 72  50 46",
        "60 15  46 5  36 22  50 46  66 72  50 95  34 74  49 48  64 26  54 8",
        "50 48  24 24  50 5  76 24  50 48  22 74  50 95  78 74  50 48",
    ),
    9: (
        "75 25  50 5  25 25  45 48  74 28  74 28  72 60  60 95",
        "72 22  48 5  24 26  46 48  72 24  72 24  72 95",
        "74 25  48 5  24 26  46 50  74 28  74 28  72 75  48 95  22 84",
        "70 10  40 8  28 30  50 45  72 15  72 15  62 95",
    ),
}


Point = tuple[float, float]


class Drawing(NamedTuple):
    """A digit as it was drawn: strokes of points on paper of 280 x 280, y downwards, and the pen's width."""

    label: int
    way: int
    strokes: tuple[tuple[Point, ...], ...]
    width: float


def drawings() -> list[Drawing]:
    """All of them; the same on every machine."""
    found = [
        _drawn(label, way, shape, random.Random(f"{label} {way} {number}"))
        for label, ways in WAYS.items()
        for way, shape in enumerate(ways)
        for number in range(PER_WAY)
    ]
    assert digest(found) == SHA256, "the drawings are frozen, and have changed"
    return found


def digest(found: list[Drawing]) -> str:
    """Their sum."""
    return hashlib.sha256(json.dumps(found).encode()).hexdigest()


def _drawn(label: int, way: int, shape: str, hand: random.Random) -> Drawing:
    """One drawing of a way of writing, by an unsteady hand."""
    slant, turn = hand.uniform(-0.3, 0.3), math.radians(hand.uniform(-8, 8))
    height = hand.uniform(110, 190)
    width = height * hand.uniform(0.65, 1.0)
    left, top = hand.uniform(45, 235 - width), hand.uniform(45, 235 - height)
    strokes = []
    for stroke in shape.split("|"):
        numbers = list(map(float, stroke.split()))
        points = list(zip(numbers[::2], numbers[1::2], strict=True))
        moved = {point: (point[0] + hand.gauss(0, 2), point[1] + hand.gauss(0, 2)) for point in points}
        placed = []
        for x, y in _smooth([moved[point] for point in points]):
            u, v = (x - 50) / 100 - slant * (y - 50) / 100, (y - 50) / 100
            u, v = u * math.cos(turn) - v * math.sin(turn), u * math.sin(turn) + v * math.cos(turn)
            placed.append((round(left + width * (u + 0.5), 1), round(top + height * (v + 0.5), 1)))
        strokes.append(tuple(placed))
    return Drawing(label, way, tuple(strokes), round(hand.uniform(9, 30), 1))


def _smooth(points: list[Point]) -> Iterator[Point]:
    """A curve through the points, with a corner where two are the same (Catmull and Rom 1974)."""
    yield points[0]
    for index, (start, end) in enumerate(pairwise(points)):
        before = points[max(index - 1, 0)]
        after = points[min(index + 2, len(points) - 1)]
        for step in range(1, 9):
            x, y = (_between(four, step / 8) for four in zip(before, start, end, after, strict=True))
            yield x, y


def _between(four: tuple[float, ...], t: float) -> float:
    """Where the curve of the second to the third of four numbers is after a share `t`."""
    before, start, end, after = four
    bend = 2 * before - 5 * start + 4 * end - after
    return start + t / 2 * (end - before + t * (bend + t * (3 * (start - end) + after - before)))


def ink(drawing: Drawing) -> np.ndarray:
    """The drawing's ink, float `[280, 280]`, 0 to 255: round lines with smooth edges."""
    paper = Image.new("L", (SIDE * FINER, SIDE * FINER))
    pen = ImageDraw.Draw(paper)
    width = drawing.width * FINER
    for stroke in drawing.strokes:
        places = [(x * FINER, y * FINER) for x, y in stroke]
        pen.line(places, fill=255, width=round(width))
        for x, y in places:  # round ends and joints
            pen.ellipse((x - width / 2, y - width / 2, x + width / 2, y + width / 2), fill=255)
    return np.asarray(paper.reduce(FINER), np.float64)
