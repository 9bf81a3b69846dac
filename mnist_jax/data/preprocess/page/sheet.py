"""By how much the sheet of paper under a digit is turned in the picture."""

import cv2
import numpy as np

from mnist_jax.data.preprocess.page.digits import Digit

PREVIEW = 256  # pixels, of the copy in which the sheet is found
SHORTEST = 0.3  # of the picture's shorter side: a shorter piece of the outline says nothing
FEWEST = 3  # straight sides; the edge of a shadow makes one, a corner of the sheet two
AGREE = 8  # degrees by which sides may differ, as seen in perspective
LEAST = 4  # degrees; a smaller turn is that of a person's hand


def straightened(digit: Digit) -> np.ndarray:
    """A digit's ink, float `[h, w]`, turned back where it is written on a sheet that lies askew."""
    ink, turn = digit.ink(), _turn(digit)
    if abs(turn) < LEAST:
        return ink
    height, width = ink.shape
    side = int(np.hypot(height, width)) + 3
    rotation = cv2.getRotationMatrix2D((width / 2, height / 2), turn, 1.0)
    rotation[:, 2] += (side - width) / 2, (side - height) / 2
    turned: np.ndarray = cv2.warpAffine(ink.astype(np.float32), rotation, (side, side))
    return turned.clip(0, 1)


def _turn(digit: Digit) -> float:
    """The angle of the sheet's sides in degrees, -45 to 45; 0 where they are not seen."""
    sides = _sides(_paper(digit))
    if len(sides) < FEWEST:
        return 0.0
    vectors = sides[:, 1] - sides[:, 0]
    lengths = np.hypot(vectors[:, 0], vectors[:, 1])
    # Four times its angle is the same for all sides of a rectangle.
    fourfold = (vectors[:, 0] + 1j * vectors[:, 1]) ** 4
    mean = (fourfold / lengths**3).sum()
    apart = np.degrees(np.abs(np.angle(fourfold / mean)).max()) / 4
    return float(np.degrees(np.angle(mean)) / 4) if apart <= AGREE else 0.0


def _paper(digit: Digit) -> np.ndarray:
    """The connected part of a small copy of the picture that has the tone of the digit's paper, bool."""
    page = digit.page
    scale = min(1.0, PREVIEW / max(page.labels.shape))
    tones = cv2.resize(page.ink.tones, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    paper = digit.paper if page.ink.dark else 255 - digit.paper
    alike = np.abs(cv2.GaussianBlur(tones, (0, 0), 1) - paper) < 0.5 * digit.contrast
    strokes = cv2.resize(
        (page.labels > 0).astype(np.uint8), tones.shape[::-1], interpolation=cv2.INTER_NEAREST
    )
    square = np.ones((5, 5), np.uint8)
    alike |= cv2.dilate(strokes, square) > 0
    _, labels = cv2.connectedComponents(cv2.morphologyEx(alike.astype(np.uint8), cv2.MORPH_OPEN, square))
    left, top, right, bottom = (int(scale * value) for value in digit.box)
    counts = np.bincount(labels[top : bottom + 1, left : right + 1].ravel())
    own = labels == 1 + counts[1:].argmax() if len(counts) > 1 else np.zeros(labels.shape, bool)
    return np.asarray(own)


def _sides(region: np.ndarray) -> np.ndarray:
    """The long straight pieces of a region's outline inside the picture: both ends of each, `[n, 2, 2]`."""
    contours, _ = cv2.findContours(region.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    if not contours:
        return np.zeros((0, 2, 2))
    corners = cv2.approxPolyDP(max(contours, key=cv2.contourArea), 3, True)[:, 0].astype(float)
    sides = np.stack([corners, np.roll(corners, -1, axis=0)], axis=1)
    lengths = np.linalg.norm(sides[:, 1] - sides[:, 0], axis=-1)
    end = np.array(region.shape[::-1]) - 3
    at_border = ((sides <= 2).all(axis=1) | (sides >= end).all(axis=1)).any(axis=1)
    kept: np.ndarray = sides[(lengths >= SHORTEST * min(region.shape)) & ~at_border]
    return kept
