"""The outlines of strokes, by which rectangles are told from writing."""

import cv2
import numpy as np

from mnist_jax.data.preprocess.page.strokes import Page, Stroke


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
