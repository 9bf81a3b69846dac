"""From any picture to MNIST's 28x28: find the ink, leave out what was printed, choose the digit, frame it."""

from dataclasses import dataclass, field, replace

import cv2
import numpy as np
from PIL import Image

from mnist_jax.data.preprocess.framing import frame
from mnist_jax.data.preprocess.page import digits
from mnist_jax.data.preprocess.page.digits import Digit
from mnist_jax.data.preprocess.page.ink import as_channels, find_ink, on_even_paper
from mnist_jax.data.preprocess.page.polarity import without_paper, without_sheets
from mnist_jax.data.preprocess.page.samples import quantile, sample
from mnist_jax.data.preprocess.page.sheet import on_sheet, straightened
from mnist_jax.data.preprocess.page.strokes import TINY, Page, Stroke, find_strokes
from mnist_jax.data.preprocess.reading import WORKING_SIZE, as_rgb, reduced
from mnist_jax.errors import ImageError

FILLED = (
    "the digit must have paper around it; got a picture full of ink or pattern; take it from farther away"
)
EVEN = 4  # gray levels: a border that is no farther from its median is even
CAMERA_NOISE = 0.012  # of the ink's values on bare paper, where there is too little paper to measure it
MOST_LINES = 0.3  # of the ink of a cropped digit may be printed lines
SIZES = (WORKING_SIZE, 512, 256)  # pixels on the longer side
NOISY = 0.03  # of the ink's values: noise that can hide strokes
SMALL = 0.12  # of the picture's longer side: a smaller digit is looked at from nearer by
MOST_CONTOURS = 6  # of a digit: its outside, two holes and some specks; squared paper has more


@dataclass(frozen=True)
class Preparation:
    """What was done with a picture.

    Attributes:
        image: the digit, uint8 `[28, 28]`; None if none was found.
        doubt: why this may not be one digit; empty if nothing speaks against it.
        confidence: the share of the strokes' ink that is in the digit, 0..1; 0 in doubt.
        box: of the digit in `steps["picture"]`: left, top, right, bottom.
        steps: the picture after each step, uint8 `[h, w]` or `[h, w, 3]`.
    """

    image: np.ndarray | None
    doubt: str
    confidence: float
    box: tuple[int, int, int, int] | None
    steps: dict[str, np.ndarray] = field(default_factory=dict)


@dataclass(frozen=True)
class _Reading:
    """A page read as one digit; `digit` is None where there is none."""

    page: Page
    digit: Digit | None
    doubt: str
    confidence: float = 0.0
    strokes: tuple[Stroke, ...] = ()


def prepare(picture: Image.Image | np.ndarray) -> np.ndarray:
    """Preprocess a picture of one digit as MNIST did.

    Args:
        picture: a Pillow image of any size and mode, or an array `[h, w]` or `[h, w, 3 or 4]` (RGB, RGBA).

    Returns:
        The image, uint8 `[28, 28]`, white on black.

    Raises:
        ImageError: if it is no picture, or there is any doubt that it shows one digit.

    Examples:
        >>> import numpy as np
        >>> from mnist_jax import preprocess
        >>> photo = np.full((90, 60), 240, np.uint8)  # light paper
        >>> photo[20:70, 28:33] = 30  # a dark stroke, the digit 1
        >>> preprocess.prepare(photo)[14, 12:17].tolist()
        [0, 0, 255, 255, 0]
    """
    preparation = examine(picture)
    if preparation.doubt or preparation.image is None:
        raise ImageError(preparation.doubt)
    return preparation.image


def examine(picture: Image.Image | np.ndarray) -> Preparation:
    """Preprocess a picture of one digit, and say what was done and whether it is in doubt.

    Args:
        picture: as for `prepare`.

    Raises:
        ImageError: if it is no picture.

    Examples:
        >>> import numpy as np
        >>> from mnist_jax import preprocess
        >>> preprocess.examine(np.full((90, 60), 240, np.uint8)).doubt
        'the picture must show a digit that stands out from the paper; got a blank one'
    """
    rgb = as_rgb(picture)
    whole, reading = _whole(rgb)
    steps = {"picture": whole}
    box = None if reading.digit is None else reading.digit.box
    if box is not None and (nearer := _nearer(rgb, whole, box)) is not None:
        steps["from nearer by"], reading = nearer
    page, digit = reading.page, reading.digit
    steps |= page_steps(page)
    if digit is None:
        return Preparation(None, reading.doubt, 0.0, None, steps)
    steps["digit"] = _shown(digit.mask)
    steps["framed"] = image = frame(straightened(digit))
    return Preparation(image, reading.doubt, reading.confidence, box, steps)


def _whole(rgb: np.ndarray) -> tuple[np.ndarray, _Reading]:
    """The picture reduced to a size at which its noise does not hide the strokes, and its reading."""
    readings = []
    for longest in SIZES:
        whole = reduced(rgb, longest)
        reading = _best(as_channels(whole))
        readings.append((whole, reading))
        if reading.digit is not None and not reading.doubt:
            return whole, reading
        if reading.doubt != digits.BLANK or float(np.median(reading.page.ink.noise)) < NOISY:
            break
    return readings[0]


def _nearer(
    rgb: np.ndarray, whole: np.ndarray, box: tuple[int, int, int, int]
) -> tuple[np.ndarray, _Reading] | None:
    """The surroundings of a small digit cut out of the whole picture, and their reading, if it agrees.

    Args:
        rgb: the picture, `[h, w, 3]`.
        whole: its reduced copy.
        box: of the digit, in `whole`.
    """
    scale = rgb.shape[0] / whole.shape[0]
    left, top, right, bottom = (round(scale * value) for value in box)
    size = max(right - left, bottom - top)
    if scale <= 1 or size > SMALL * max(rgb.shape):
        return None
    x, y = max(0, left - size), max(0, top - size)
    part = rgb[y : bottom + size, x : right + size]
    reading = _best(as_channels(part))
    if reading.digit is None or reading.doubt:
        return None
    moved = np.add(reading.digit.box, (x, y, x, y)) - (left, top, right, bottom)
    return (part, reading) if np.abs(moved).max() <= 0.2 * size else None


def page_steps(page: Page) -> dict[str, np.ndarray]:
    """The steps up to the strokes of a page, each uint8 `[h, w]`."""
    return {"ink": _shown(page.ink.values), "without lines": _shown(page.labels > 0)}


def _shown(values: np.ndarray) -> np.ndarray:
    """Values 0..1 as gray levels, uint8."""
    return np.asarray(np.rint(255 * np.clip(values, 0, 1)), np.uint8)


def best_page(channels: np.ndarray) -> tuple[Page, tuple[Stroke, ...], str]:
    """The strokes of the polarity that has most for it, and why there are none.

    Args:
        channels: of the picture, from `as_channels`.
    """
    border = _border(channels)
    # That there are several shapes is no doubt here.
    dark, light = (
        replace(reading, doubt=reading.doubt * (not reading.digit)) for reading in _both(channels, border)
    )
    reading = _stronger(dark, light, border)
    return reading.page, reading.strokes, "" if reading.digit else reading.doubt


def _both(channels: np.ndarray, border: np.ndarray | None) -> tuple[_Reading, _Reading]:
    """The readings of a picture as dark ink and as light ink."""
    paper = border if max(channels.shape) <= TINY else None
    dark, light = (find_strokes(find_ink(channels, dark=dark, paper=paper)) for dark in (True, False))
    return _read_on_sheet(dark, light), _read_on_sheet(light, dark)


def _read_on_sheet(page: Page, other: Page) -> _Reading:
    return _read(page, on_sheet(page, without_paper(page, other)))


def _border(channels: np.ndarray) -> np.ndarray | None:
    """The tone of a picture's border in each channel, if it is even."""
    border = _along_border(channels)
    middle = np.asarray(np.median(border, axis=1), np.float64)
    even = np.abs(border - middle[:, None]).max(axis=0) <= EVEN
    # MNIST's own digits may touch the border.
    return middle if even.mean() >= (0.8 if max(channels.shape) <= TINY else 1) else None


def _along_border(values: np.ndarray) -> np.ndarray:
    """The pixels at the border of a picture `[..., h, w]`, as `[..., n]`."""
    sides = values[..., 0, :], values[..., -1, :], values[..., 0], values[..., -1]
    return np.concatenate(sides, axis=-1)


def _best(channels: np.ndarray) -> _Reading:
    """The reading that has most for it: dark or light ink, with paper around or cropped to the ink."""
    border = _border(channels)
    dark, light = _both(channels, border)
    best = _stronger(dark, light, border)
    cropped = _read_cropped(dark.page, light.page)
    if cropped is None or cropped.digit is None:
        return best
    if best.digit is None or best.doubt or cropped.digit.weight > 1.1 * best.digit.weight:
        return cropped
    return best


def _read(page: Page, strokes: tuple[Stroke, ...]) -> _Reading:
    """Reads the strokes of a page as one digit."""
    if page.filled:
        return _Reading(page, None, FILLED)
    inside, cut = (
        digits.candidates(page, (stroke for stroke in strokes if stroke.at_border == at_border))
        for at_border in (False, True)
    )
    if not inside:
        return _Reading(page, None, digits.CUT if cut else digits.BLANK)
    digit = Digit(tuple(digits.without_print(page, inside)), page)
    reason = digits.doubt(digit, cut)
    total = sum(stroke.weight for stroke in strokes)
    return _Reading(page, digit, reason, 0.0 if reason else min(1.0, digit.weight / total), strokes)


def _stronger(dark: _Reading, light: _Reading, border: np.ndarray | None = None) -> _Reading:
    """Dark ink, which is what most people write with, unless light ink is far clearer.

    Where the picture's border is even, as in drawings, its tone is that of the paper.
    """
    if dark.digit is None or light.digit is None:
        if dark.digit is light.digit:
            return max(dark, light, key=lambda reading: reading.doubt != digits.BLANK)
        return light if dark.digit is None else dark
    if border is not None:
        far = [abs(reading.digit.paper - float(border[0])) for reading in (dark, light) if reading.digit]
        if max(far) - min(far) > 30:
            return dark if far[0] < far[1] else light
    if dark.doubt and not light.doubt:
        return light if light.digit.contrast >= 0.5 * dark.digit.contrast else dark
    if light.doubt and not dark.doubt:
        return dark
    return dark if dark.digit.contrast >= 0.4 * light.digit.contrast else light


def _read_cropped(dark: Page, light: Page) -> _Reading | None:
    """The reading of a picture cropped to its ink; None if it was not, or if that is a sheet or lines.

    `dark` and `light` are its pages as if there were paper around the ink.
    """
    lines = dark.lines | light.lines
    height, width = lines.shape
    margin = 0.08 * max(height, width)
    result = None
    for ink, other in ((dark.ink, light), (light.ink, dark)):
        paper = quantile(sample(ink.tones), 0.9)
        page = find_strokes(on_even_paper(ink.tones, dark=ink.dark, paper=paper, noise=CAMERA_NOISE))
        found = digits.candidates(page, without_sheets(page, other))
        if len(found) != 1:
            continue
        digit = Digit(tuple(found), page)
        left, top, right, bottom = digit.box
        whole = max(left, top, width - right, height - bottom) <= margin
        own = digit.mask
        contours, _ = cv2.findContours(own.astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
        glyph = len(contours) <= MOST_CONTOURS and lines[own].mean() <= MOST_LINES
        if whole and glyph and _along_border(own).mean() <= 0.5 and not digits.doubt(digit, []):
            reading = _Reading(page, digit, "", 1.0)
            result = reading if result is None else _stronger(result, reading)
    return result
