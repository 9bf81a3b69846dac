"""The sheet of paper: which strokes are on it, and by how much it is turned in the picture."""

from collections.abc import Sequence

import cv2
import numpy as np

from mnist_jax.data.preprocess.page.digits import Digit
from mnist_jax.data.preprocess.page.strokes import Page, Stroke
from mnist_jax.data.preprocess.reading import reduced

PREVIEW = 256  # pixels, of the copy in which the sheet is found
LINE = 3  # pixels of it: thinner lines do not part a sheet
RING = 6  # pixels of it around a stroke's box, where its paper is looked for
STRIPE = 11  # pixels of it: narrower stripes of its tone are no part of the sheet
MOST_SHEETS = 12  # stretches of paper that are looked at, those under the heaviest strokes
PART = 0.3  # of the largest stretch: a part of the sheet beyond a shadow or a fold, not a stripe of the table
COVERED = 0.8  # of a stroke: it lies on the paper
SHORTEST = 0.3  # of the picture's shorter side: a shorter piece of the outline says nothing
FEWEST = 3  # straight sides; the edge of a shadow makes one, a corner of the sheet two
AGREE = 8  # degrees by which sides may differ, as seen in perspective
LEAST = 4  # degrees; a smaller turn is that of a person's hand


def on_sheet(page: Page, strokes: Sequence[Stroke]) -> tuple[Stroke, ...]:
    """The strokes on the largest stretch of bare paper; a pattern around it is that of the table."""
    if len(strokes) < 2 or page.ink.paper is not None:
        return tuple(strokes)
    preview = _preview(page)
    sheets: list[tuple[int, np.ndarray, list[Stroke]]] = []
    for stroke in sorted(strokes, key=lambda stroke: -stroke.weight):
        own = next((on for _, sheet, on in sheets if _covers(sheet, stroke, page)), None)
        if own is not None:
            own.append(stroke)
        elif len(sheets) < MOST_SHEETS:
            paper = _paper(preview, page, stroke)
            sheet = _filled(paper)
            gaps = np.count_nonzero(sheet & ~paper)
            sheets.append((int(np.count_nonzero(paper) - 2 * gaps), sheet, [stroke]))
    least = PART * max(size for size, _, _ in sheets)
    return tuple(stroke for size, _, on in sheets if size >= least for stroke in on)


def _covers(sheet: np.ndarray, stroke: Stroke, page: Page) -> bool:
    places = np.argwhere(page.own(stroke)) + np.array([stroke.top, stroke.left])
    rows, columns = (places * sheet.shape // np.array(page.labels.shape)).T
    return bool(sheet[rows, columns].mean() >= COVERED)


def _box(stroke: Stroke, scale: float) -> tuple[slice, slice]:
    """The rows and columns of a stroke's box in a small copy of the picture, and a pixel around them."""
    rows = slice(max(0, int(scale * stroke.top) - 1), int(scale * stroke.bottom) + 2)
    return rows, slice(max(0, int(scale * stroke.left) - 1), int(scale * stroke.right) + 2)


def _filled(region: np.ndarray) -> np.ndarray:
    """A region without its holes."""
    contours, _ = cv2.findContours(region.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    return cv2.drawContours(np.zeros(region.shape, np.uint8), contours, -1, 1, cv2.FILLED) > 0


def straightened(digit: Digit) -> np.ndarray:
    """A digit's ink, float `[h, w]`, turned back where it is written on a sheet that lies askew."""
    ink = digit.ink()
    turn = 0.0 if digit.page.tiny else _turn(digit)
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
    sides = _sides(_paper(_preview(digit.page), digit.page, digit.heaviest))
    if len(sides) < FEWEST:
        return 0.0
    vectors = sides[:, 1] - sides[:, 0]
    lengths = np.hypot(vectors[:, 0], vectors[:, 1])
    # Four times its angle is the same for all sides of a rectangle.
    fourfold = (vectors[:, 0] + 1j * vectors[:, 1]) ** 4
    mean = (fourfold / lengths**3).sum()
    apart = np.degrees(np.abs(np.angle(fourfold / mean)).max()) / 4
    return float(np.degrees(np.angle(mean)) / 4) if apart <= AGREE else 0.0


def _preview(page: Page) -> tuple[np.ndarray, np.ndarray]:
    """Small copies of a page: its tones, uint8, and where there are printed lines, bool."""
    tones = reduced(page.ink.tones, PREVIEW)
    lines = cv2.resize(page.lines.astype(np.float32), tones.shape[::-1], interpolation=cv2.INTER_AREA)
    return cv2.GaussianBlur(tones, (0, 0), 1), cv2.dilate(lines, np.ones((3, 3), np.uint8)) > 0


def _paper(preview: tuple[np.ndarray, np.ndarray], page: Page, stroke: Stroke) -> np.ndarray:
    """The connected part of a page's preview that has the tone of a stroke's paper, bool."""
    tones, lines = preview
    paper = stroke.paper if page.ink.dark else 255 - stroke.paper
    alike = (np.abs(tones - paper) < 0.5 * stroke.contrast) | lines
    whole = cv2.morphologyEx(alike.astype(np.uint8), cv2.MORPH_CLOSE, np.ones((LINE, LINE), np.uint8))
    wide = cv2.morphologyEx(whole, cv2.MORPH_OPEN, np.ones((STRIPE, STRIPE), np.uint8))
    labels = np.asarray(cv2.connectedComponents(wide)[1], np.intp)
    rows, columns = _box(stroke, min(1.0, PREVIEW / max(page.labels.shape)))
    above, before = max(0, rows.start - RING), max(0, columns.start - RING)
    around = labels[above : rows.stop + RING, before : columns.stop + RING]
    counts = np.bincount(around.ravel(), minlength=2)
    counts -= np.bincount(labels[rows, columns].ravel(), minlength=len(counts))  # the inside of a loop
    return np.asarray(labels == 1 + counts[1:].argmax())


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
