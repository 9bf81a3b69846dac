"""How much each pixel stands out from the paper around it.

The paper at a pixel is the tone that a morphological closing finds there: of all squares that contain the
pixel, the one whose brightest spot is darkest. Strokes are narrower than the square and vanish. The edge of a
table, of a shadow or of a window is as wide as the square or reaches the border, and stays: it is no ink.
(Serra: Image Analysis and Mathematical Morphology, 1982: the black top-hat.)
"""

from typing import NamedTuple

import cv2
import numpy as np

from mnist_jax.data.preprocess.page.samples import median, quantile, sample
from mnist_jax.data.preprocess.reading import reduced

SQUARE = 0.3  # side of the square, of the picture's shorter side; strokes must be narrower
PREVIEW = 160  # pixels, of the copy on which the channel is chosen
PREFER_GRAY = 1.3  # a color channel must show the strokes this much better than brightness does
LIGHT_SCALE = 160.0  # gray levels by which chalk stands out from a board
CELLS = 10  # per side of the picture, in which its noise is measured
SMALLEST_CELL = 8  # pixels
CALM = 0.5  # of the picture's noise: the most in cells that are judged by their own
DARKEST_PAPER = 40.0  # gray levels; below, contrast is not divided by the paper's tone


class Ink(NamedTuple):
    """The ink of one polarity.

    Attributes:
        dark: whether it is darker than paper, or lighter.
        values: float32 `[h, w]`, 0 on paper; of dark ink, the share of the paper's light that it absorbs.
        noise: standard deviation of the values on the bare paper around each pixel, float32 `[h, w]`.
        paper: the paper's gray level in `tones`, where it is known to be even.
        tones: the channel in which it was found, uint8 `[h, w]`, inverted for light ink: paper is bright.
    """

    dark: bool
    values: np.ndarray
    noise: np.ndarray
    paper: float | None
    tones: np.ndarray


def as_channels(rgb: np.ndarray) -> np.ndarray:
    """Brightness, red, green and blue of an RGB picture, uint8 `[4, h, w]`."""
    return np.stack([cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY), *cv2.split(rgb)])


def find_ink(channels: np.ndarray, *, dark: bool, paper: np.ndarray | None = None) -> Ink:
    """The ink in a picture, in the channel that shows it best.

    Args:
        channels: from `as_channels`.
        dark: whether ink is darker than paper, or lighter.
        paper: its tone in each channel, float `[4]`, where it is known to be even.
    """
    best, number = -1.0, 0
    if (channels[1:] != channels[0]).any():
        for index, channel in enumerate(channels):
            small = reduced(channel, PREVIEW)
            ink = _in_channel(small, dark, None if paper is None else float(paper[index]))
            clarity = quantile(ink.values / (ink.noise + 0.01), 0.995)
            clarity *= PREFER_GRAY if index == 0 else 1
            if clarity > best:
                best, number = clarity, index
    return _in_channel(channels[number], dark, None if paper is None else float(paper[number]))


def on_even_paper(tones: np.ndarray, *, dark: bool, paper: float, noise: float = 0.0) -> Ink:
    """The ink on paper of a known tone.

    Args:
        tones: as in `Ink`.
        dark: whether it is darker than paper, or lighter.
        paper: the tone of the paper, in `tones`.
        noise: of the values on bare paper.
    """
    depth = paper - tones.astype(np.float32)
    values = depth / np.float32(max(paper, DARKEST_PAPER) if dark else LIGHT_SCALE)
    return Ink(dark, values, np.full(values.shape, noise, np.float32), paper, tones)


def _in_channel(channel: np.ndarray, dark: bool, paper: float | None) -> Ink:
    tones = channel if dark else 255 - channel
    if paper is not None:
        return on_even_paper(tones, dark=dark, paper=paper if dark else 255 - paper)
    smooth = cv2.GaussianBlur(tones, (0, 0), 0.8)
    noisy = median(cv2.absdiff(sample(tones), sample(smooth))) > 0  # as a camera is, and no drawing
    tones = smooth if noisy else tones
    side = int(SQUARE * min(tones.shape)) | 1
    around = _closing(tones, max(5, side)).astype(np.float32)
    depth = around - tones
    values = depth / np.maximum(around, DARKEST_PAPER) if dark else depth / LIGHT_SCALE
    bare, noise_around = _bare_paper(values)
    return Ink(dark, values - bare, noise_around, None, tones)


def _bare_paper(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of the values on bare paper, around each pixel, float32 `[h, w]`.

    They are those of the whole picture, or of the cells around where these have far less noise: a table has
    more texture than the sheet on it.
    """
    some = sample(values)
    middle = median(some)
    noise = 1.4826 * median(np.abs(some - middle))
    rows, columns = (max(1, min(CELLS, length // SMALLEST_CELL)) for length in some.shape)
    height, width = some.shape[0] // rows, some.shape[1] // columns
    cells = some[: rows * height, : columns * width].reshape(rows, height, columns, width)
    per_cell = cells.swapaxes(1, 2).reshape(rows, columns, -1)
    middles = _middle(per_cell)
    noises = np.float32(1.4826) * _middle(np.abs(per_cell - middles[..., None]))
    near_middle, near_noise = (
        cv2.resize(cv2.medianBlur(each, 3), values.shape[::-1]) for each in (middles, noises)
    )
    calm = (near_noise < CALM * noise) & (near_middle <= middle)
    return np.where(calm, near_middle, np.float32(middle)), np.where(calm, near_noise, np.float32(noise))


def _middle(values: np.ndarray) -> np.ndarray:
    """The median along the last axis."""
    middle = values.shape[-1] // 2
    return np.ascontiguousarray(np.partition(values, middle)[..., middle])


def _closing(tones: np.ndarray, side: int) -> np.ndarray:
    """A closing by a square, on the picture continued beyond its borders."""
    padded = cv2.copyMakeBorder(tones, side, side, side, side, cv2.BORDER_REPLICATE)
    square = cv2.getStructuringElement(cv2.MORPH_RECT, (side, side))
    closed: np.ndarray = cv2.morphologyEx(padded, cv2.MORPH_CLOSE, square)
    return closed[side:-side, side:-side]
