"""Synthetic freehand digits, as strokes: 43 templates, each drawn five times.

The drawings are generated, not collected: a template is a few points that a pen passes through, and each
drawing has a random slant, size, position, stroke width and jitter. The set was frozen by its checksum before
any network was evaluated on it, and nothing is ever selected by it.
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

SIDE = 280  # of the canvas, in pixels
SUPERSAMPLING = 4  # for antialiasing: drawn larger by this factor, then reduced
DRAWINGS_PER_TEMPLATE = 5
SHA256 = "aee96bb503ceacf78ca024230519201e3e70adae1e9cfaf66c44a9fd05aa817a"

# Points (x, y) in a box of 100 x 100, from the top left. The pen follows a smooth curve through them, with a
# corner at a repeated point. A bar separates strokes.
TEMPLATES = {
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
    """A drawing of a digit.

    Attributes:
        label: the digit.
        way: the index of its template.
        strokes: points (x, y) on a canvas of 280 x 280, y downwards.
        width: the stroke width.
    """

    label: int
    way: int
    strokes: tuple[tuple[Point, ...], ...]
    width: float


def drawings() -> list[Drawing]:
    """All drawings; the same on every machine."""
    result = [
        _draw(label, way, template, random.Random(f"{label} {way} {number}"))
        for label, templates in TEMPLATES.items()
        for way, template in enumerate(templates)
        for number in range(DRAWINGS_PER_TEMPLATE)
    ]
    assert digest(result) == SHA256, "the drawings are frozen and must not change"
    return result


def digest(items: list[Drawing]) -> str:
    """The SHA-256 of drawings."""
    return hashlib.sha256(json.dumps(items).encode()).hexdigest()


def _draw(label: int, way: int, template: str, rng: random.Random) -> Drawing:
    """Draws a template with random variations."""
    slant, angle = rng.uniform(-0.3, 0.3), math.radians(rng.uniform(-8, 8))
    height = rng.uniform(110, 190)
    width = height * rng.uniform(0.65, 1.0)
    left, top = rng.uniform(45, 235 - width), rng.uniform(45, 235 - height)
    strokes = []
    for stroke in template.split("|"):
        numbers = list(map(float, stroke.split()))
        points = list(zip(numbers[::2], numbers[1::2], strict=True))
        jittered = {point: (point[0] + rng.gauss(0, 2), point[1] + rng.gauss(0, 2)) for point in points}
        transformed = []
        for x, y in _smooth([jittered[point] for point in points]):
            u, v = (x - 50) / 100 - slant * (y - 50) / 100, (y - 50) / 100
            u, v = u * math.cos(angle) - v * math.sin(angle), u * math.sin(angle) + v * math.cos(angle)
            transformed.append((round(left + width * (u + 0.5), 1), round(top + height * (v + 0.5), 1)))
        strokes.append(tuple(transformed))
    return Drawing(label, way, tuple(strokes), round(rng.uniform(9, 30), 1))


def _smooth(points: list[Point]) -> Iterator[Point]:
    """A smooth curve through the points, with a corner where two are equal (Catmull and Rom 1974)."""
    yield points[0]
    for index, (start, end) in enumerate(pairwise(points)):
        before = points[max(index - 1, 0)]
        after = points[min(index + 2, len(points) - 1)]
        for step in range(1, 9):
            x, y = (_interpolate(values, step / 8) for values in zip(before, start, end, after, strict=True))
            yield x, y


def _interpolate(values: tuple[float, ...], t: float) -> float:
    """A Catmull-Rom spline between the second and the third of four values, at 0 <= `t` <= 1."""
    before, start, end, after = values
    curvature = 2 * before - 5 * start + 4 * end - after
    return start + t / 2 * (end - before + t * (curvature + t * (3 * (start - end) + after - before)))


def ink(drawing: Drawing) -> np.ndarray:
    """Rasterizes a drawing with round, antialiased lines; returns float64 `[280, 280]`, 0 to 255."""
    canvas = Image.new("L", (SIDE * SUPERSAMPLING, SIDE * SUPERSAMPLING))
    pen = ImageDraw.Draw(canvas)
    width = drawing.width * SUPERSAMPLING
    for stroke in drawing.strokes:
        points = [(x * SUPERSAMPLING, y * SUPERSAMPLING) for x, y in stroke]
        pen.line(points, fill=255, width=round(width))
        for x, y in points:  # round ends and joints
            pen.ellipse((x - width / 2, y - width / 2, x + width / 2, y + width / 2), fill=255)
    return np.asarray(canvas.reduce(SUPERSAMPLING), np.float64)
