"""Which shapes are ink: a digit's strokes, not the gaps between them, nor the sheet on a table."""

from collections.abc import Iterable

import cv2
import numpy as np

from mnist_jax.data.preprocess.strokes import Page, Stroke

SHEET = 0.84  # of its smallest rectangle: from here on, the hull of a shape is that of a sheet
GLYPH = 0.35  # of its size: up to here, the thickness of a shape is that of a stroke


def without_paper(page: Page, other: Page) -> tuple[Stroke, ...]:
    """The strokes of a page that are neither sheets nor gaps, judged by those of the other polarity."""
    return tuple(
        stroke
        for stroke in page.strokes
        if not _is_sheet(stroke, page, other.strokes) and not _is_gap(stroke, other)
    )


def _is_sheet(shape: Stroke, page: Page, inks: Iterable[Stroke]) -> bool:
    """Whether there is writing of the other polarity on it."""
    writing = [
        ink
        for ink in inks
        if ink.thickness <= 0.6 * shape.thickness
        and ink.size >= 0.2 * shape.size
        and not (ink.width > 0.9 * shape.width and ink.height > 0.9 * shape.height)
    ]
    if not writing:
        return False
    hull = _hull(page, shape)
    rectangular = _fill(hull) > SHEET
    return any(
        (rectangular or abs(ink.tone - shape.paper) > 0.4 * shape.contrast) and _inside(ink, hull)
        for ink in writing
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
        hull = _hull(other, ink)
        if _fill(hull) <= 0.88 and _inside(shape, hull):
            return True
    return False


def _hull(page: Page, stroke: Stroke) -> np.ndarray:
    rows, columns = slice(stroke.top, stroke.bottom), slice(stroke.left, stroke.right)
    points = np.argwhere(page.labels[rows, columns] == stroke.label)[:, ::-1] + [stroke.left, stroke.top]
    hull: np.ndarray = cv2.convexHull(points.astype(np.int32))
    return hull


def _fill(hull: np.ndarray) -> float:
    """The share of the smallest rectangle around a hull that it fills."""
    _, (width, height), _ = cv2.minAreaRect(hull)
    return float(cv2.contourArea(hull)) / max(1.0, width * height)


def _inside(stroke: Stroke, hull: np.ndarray) -> bool:
    center = (stroke.left + stroke.width / 2, stroke.top + stroke.height / 2)
    return float(cv2.pointPolygonTest(hull, center, False)) >= 0
