"""Which shapes are ink: a digit's strokes, not the gaps between them, nor the sheet on a table."""

from collections.abc import Iterable

import cv2
import numpy as np

from mnist_jax.data.preprocess.page.outlines import fill, outline
from mnist_jax.data.preprocess.page.strokes import Page, Stroke

SHEET = 0.8  # of its smallest rectangle: from here on, the outline of a shape is that of a sheet
HULL = 0.84  # the same for its hull, where the writing differs from what is around the sheet
WRITING = 0.08  # of a sheet's size: smaller shapes on it are no writing
GLYPH = 0.35  # of its size: up to here, the thickness of a shape is that of a stroke


def without_paper(page: Page, other: Page) -> tuple[Stroke, ...]:
    """The strokes of a page that are neither sheets nor gaps, judged by those of the other polarity."""
    return tuple(stroke for stroke in without_sheets(page, other) if not _is_gap(stroke, other))


def without_sheets(page: Page, other: Page) -> tuple[Stroke, ...]:
    """The strokes of a page that are no sheets, judged by those of the other polarity."""
    return tuple(stroke for stroke in page.strokes if not _is_sheet(stroke, page, other.strokes))


def _is_sheet(shape: Stroke, page: Page, inks: Iterable[Stroke]) -> bool:
    """Whether there is writing of the other polarity on it."""
    writing = [
        ink
        for ink in inks
        if ink.thickness <= 0.6 * shape.thickness
        and ink.size >= WRITING * shape.size
        and not (ink.width > 0.9 * shape.width and ink.height > 0.9 * shape.height)
    ]
    if not writing:
        return False
    contour = outline(page, shape)
    hull = cv2.convexHull(contour)
    least = 0.4  # of the contrast, by which the writing differs from what is around the sheet
    if fill(hull) > HULL:
        least = 0.15
    if fill(contour) > SHEET:
        least = 0.0
    return any(
        abs(ink.tone - shape.paper) >= least * shape.contrast and _inside(ink, hull) for ink in writing
    )


def _is_gap(shape: Stroke, other: Page) -> bool:
    """Whether it is the paper within a larger shape of the other polarity, a stroke."""
    for ink in other.strokes:
        stroke_like = ink.thickness <= GLYPH * ink.size and ink.area >= 4 * ink.thickness**2
        if ink.size < shape.size or not stroke_like:
            continue
        blob = shape.area < 4 * shape.thickness**2 or shape.size < 0.25 * ink.size
        if not blob or abs(shape.tone - ink.paper) > 0.2 * ink.contrast:
            continue
        hull = cv2.convexHull(outline(other, ink))
        if fill(hull) <= 0.88 and _inside(shape, hull):
            return True
    return False


def _inside(stroke: Stroke, hull: np.ndarray) -> bool:
    center = (stroke.left + stroke.width / 2, stroke.top + stroke.height / 2)
    return float(cv2.pointPolygonTest(hull, center, False)) >= 0
