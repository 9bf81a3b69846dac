"""The outlines of strokes, by which rectangles and shadows are told from writing."""

import cv2
import numpy as np

from mnist_jax.data.preprocess.page.samples import median, quantile
from mnist_jax.data.preprocess.page.strokes import Page, Stroke

STRONG = 0.5  # ink from which a stroke may be out of focus; shadows are fainter
SOFT = 0.6  # of its thickness: the widest edge of a pen's stroke in focus
SOFTEST = 3.4  # pixels; thinner strokes have edges as wide as themselves
EVEN = 0.65  # of its ink, which is left where a pen's stroke is faintest


def outline(page: Page, stroke: Stroke) -> np.ndarray:
    """The outer contour of a stroke in the picture, int32 `[n, 1, 2]`, as OpenCV has it."""
    own = page.own(stroke).astype(np.uint8)
    place = stroke.left, stroke.top
    contours, _ = cv2.findContours(own, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE, offset=place)
    return np.asarray(contours[0])


def fill(contour: np.ndarray) -> float:
    """The share of the smallest rectangle around a contour that it encloses."""
    _, (width, height), _ = cv2.minAreaRect(contour)
    return float(cv2.contourArea(contour)) / max(1.0, width * height)


def fades(page: Page, stroke: Stroke) -> bool:
    """Whether a stroke is soft for its thickness or uneven, as shadows and the edges of sheets are."""
    part = _around(stroke, 2)
    ink, own = page.ink.values[part], page.labels[part] == stroke.label
    inside = cv2.erode(own.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
    core = ink[inside if np.count_nonzero(inside) > 8 else own]
    strong = stroke.strength >= STRONG
    if not strong and quantile(core, 0.2) < EVEN * quantile(core, 0.9):
        return True
    slope = np.hypot(*(cv2.Sobel(ink, cv2.CV_32F, *axis, scale=1 / 8) for axis in ((1, 0), (0, 1))))
    edge = stroke.strength / max(median(slope[own & ~inside]), 1e-6)  # pixels from paper to full ink
    return bool(edge > (1 + strong) * max(SOFT * stroke.thickness, SOFTEST))


def near_lines(page: Page, stroke: Stroke) -> float:
    """The share of a stroke that lies within 3 pixels of printed lines."""
    part = _around(stroke, 3)
    near = cv2.dilate(page.lines[part].astype(np.uint8), np.ones((7, 7), np.uint8))
    return float(near[page.labels[part] == stroke.label].mean())


def _around(stroke: Stroke, margin: int) -> tuple[slice, slice]:
    """The rows and columns of its box, and some pixels around them."""
    rows = slice(max(0, stroke.top - margin), stroke.bottom + margin)
    return rows, slice(max(0, stroke.left - margin), stroke.right + margin)
