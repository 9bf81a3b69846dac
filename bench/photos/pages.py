"""Pages of several digits: a telephone number, or a column of numbers."""

import numpy as np
from PIL import Image

from bench.photos import kinds, scene

Rows = list[list[int]]  # the indices of the digits, row by row


def page(images: np.ndarray, indices: np.ndarray, rng: np.random.Generator) -> tuple[Image.Image, Rows]:
    """A page written with the digits at some of the indices, in their order; and which, row by row.

    Args:
        images: uint8 `[n, 28, 28]`.
        indices: at least 20 of them.
        rng: for all that is random.
    """
    if rng.random() < 0.5:
        lengths = [int(rng.integers(6, 12))]  # a telephone number
    else:
        lengths = [int(rng.integers(2, 5)) for _ in range(int(rng.integers(3, 6)))]
    size = int(rng.integers(50, 80))
    step, line = round(size * rng.uniform(1.05, 1.4)), round(size * rng.uniform(1.5, 2))
    margin = round(1.2 * size)
    height, width = 2 * margin + line * len(lengths), 2 * margin + step * max(lengths)
    sheet = scene.light_paper(height, width, rng)
    if rng.random() < 0.3:
        sheet = kinds.with_lines(sheet, rng, line)
    ink, rows, used = scene.dark_ink(rng), [], 0
    for number, length in enumerate(lengths):
        row = [int(index) for index in indices[used : used + length]]
        used += length
        rows.append(row)
        for place, index in enumerate(row):
            coverage = scene.strokes(images[index], round(size * rng.uniform(0.9, 1.1)), rng)
            center = margin + step * (max(lengths) - length + place) + step // 2
            left = round(center - coverage.shape[1] / 2 + rng.uniform(-0.04, 0.04) * size)
            top = round(margin + number * line + (size - coverage.shape[0]) / 2 + rng.uniform(0, 0.15) * size)
            sheet = scene.draw(sheet, coverage, max(0, top), max(0, left), ink)
    if rng.random() < 0.25:
        sheet = scene.on_table(sheet, rng, (0.7, 0.9))
    return scene.usual_camera(sheet, rng), rows
