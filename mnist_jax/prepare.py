"""Any picture of a digit -> the 28x28 that MNIST would have made of it. NumPy and Pillow alone.

MNIST's own preparation is `frame`: the digit scaled to 20 pixels on its longer side, grey levels and
all, and put into 28x28 with its centre of mass in the middle (LeCun, Cortes, Burges: The MNIST
database). MNIST's own pictures come out of it as they went in, to a grey level. Before it, `isolate`
finds the ink: on any paper, dark or light, evenly lit or not.

Raises, when it is imported:
    NotInstalledError: there is no Pillow.
"""

import warnings
from io import BytesIO
from os import PathLike, fspath
from typing import Any

import numpy as np

from mnist_jax.checks import as_array
from mnist_jax.errors import ImageError, InputError, NotInstalledError
from mnist_jax.files import read_bytes

try:
    from PIL import Image, ImageOps
except ModuleNotFoundError as error:
    raise NotInstalledError("mnist_jax.prepare", error) from None

MAX_PIXELS = 50_000_000
LARGEST_FILE = 2**28  # bytes, more than so many pixels need without compression
WORKING_SIZE = 256  # pixels on the longer side; strokes are then still several pixels wide
FORMATS = ("PNG", "JPEG", "WEBP", "BMP")


def prepare(picture: Image.Image | np.ndarray) -> np.ndarray:
    """The picture as MNIST would have it: uint8 `[28, 28]`, white on black.

    Args:
        picture: of one digit, any size and mode; or an array, uint8 `[h, w]`, or `[h, w, 3 or 4]` with
            colours and alpha.

    Raises:
        ImageError: no digit in it, or several; or not a picture, or an array of another shape or dtype.
    """
    if isinstance(picture, str | bytes | PathLike):
        raise ImageError(f"prepare takes a Pillow image or an array; got {picture!r}; read() opens files")
    if not isinstance(picture, Image.Image):
        picture = _from_array(picture)
    if not picture.width * picture.height:
        raise ImageError(f"a picture must have pixels; got {picture.width} x {picture.height} of them")
    return frame(one_digit(isolate(_grey(picture))))


def read(source: str | PathLike[str] | bytes) -> Image.Image:
    """Opens a PNG, JPEG, WebP or BMP file, or the bytes of one, the right way up.

    Raises:
        ImageError: it is missing, damaged, of another format, or has more than 50 million pixels.
    """
    name = "the picture" if isinstance(source, bytes) else fspath(source)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of sizes; the limit below is ours, and is an error
            data = source if isinstance(source, bytes) else read_bytes(source, LARGEST_FILE)
            picture = Image.open(BytesIO(data), formats=FORMATS)
            width, height = picture.size
            if width * height > MAX_PIXELS:
                raise ImageError(
                    f"{name} must have at most {MAX_PIXELS:,} pixels; got {width:,} x {height:,}"
                )
            picture.draft("L", (2 * WORKING_SIZE, 2 * WORKING_SIZE))  # a JPEG is read no larger than needed
            return ImageOps.exif_transpose(picture)
    except ImageError:
        raise
    except Image.DecompressionBombError:
        raise ImageError(f"{name} must have at most {MAX_PIXELS:,} pixels; got far more") from None
    except OSError as error:  # among them Pillow's own, which would name no file
        reason = error.strerror or "it is not one, or it is damaged"
        raise ImageError(f"{name} must be a PNG, JPEG, WebP or BMP picture; {reason}") from None
    except Exception as error:  # a damaged file makes Pillow's decoders raise whatever comes
        reason = " ".join(str(error).split())
        raise ImageError(f"{name} must be a whole picture; it cannot be decoded: {reason}") from None


def isolate(grey: np.ndarray) -> np.ndarray:
    """The ink, float `[h, w]` in 0..1, zero where there is only paper.

    The paper is a smooth surface, quadratic in x and y, fitted to what is not ink; ink is what is off it
    on the side where most is, further than the paper's own grain.

    Raises:
        ImageError: nothing stands out from the paper.
    """
    off = grey - _paper(grey)
    if (off**3).sum() < 0:  # the longer tail is the ink's: dark on light
        off = -off
    spread = 1.4826 * float(np.median(np.abs(off)))
    darkest = float(off.max())
    if darkest < max(12 / 255, 8 * spread):
        raise ImageError("the picture must show a digit that stands out from the paper; got a blank one")
    if spread < 1 / 255:  # clean paper has no grain: keep every grey level
        return np.asarray(np.where(off < 0.5 / 255, 0, off / darkest))
    floor, full = 3 * spread, float(np.percentile(off[off > 0.5 * darkest], 50))
    return np.asarray(np.clip((off - floor) / (full - floor), 0, 1))


def _paper(grey: np.ndarray) -> np.ndarray:
    height, width = grey.shape
    y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
    terms = np.stack([np.ones_like(x), x, y, x * y, x * x, y * y], axis=-1).reshape(-1, 6)
    values = grey.reshape(-1)
    # Start from the middle grey and let ink, the outliers, drop out.
    fit = np.array([float(np.median(values)), 0, 0, 0, 0, 0])
    for _ in range(8):
        off = np.abs(values - terms @ fit)
        near = off <= max(2.5 * float(np.median(off)), 2 / 255)
        fit = np.linalg.lstsq(terms[near], values[near], rcond=1e-6)[0]
    paper: np.ndarray = (terms @ fit).reshape(height, width)
    return paper


def one_digit(ink: np.ndarray) -> np.ndarray:
    """The ink without specks, if what is left can be one digit.

    Raises:
        ImageError: it is several side by side or above each other, or a line.
    """
    labels = _components(ink > 0.1)
    weights = np.bincount(labels.reshape(-1), weights=(ink * (ink > 0.5)).reshape(-1))
    weights[0] = 0
    large = np.flatnonzero(weights > 0.05 * weights.max())
    boxes = [_box(labels == label) for label in large]
    whole = _box(np.isin(labels, large))
    for number, one in enumerate(boxes):
        for other in boxes[number + 1 :]:
            if _side_by_side(one, other, whole) or _stacked(one, other, whole):
                raise ImageError(
                    f"the picture must show one digit; got {len(large)} separate shapes; "
                    "cut it into one picture each"
                )
    if _length(whole, 1) > 1.8 * _length(whole, 0):
        raise ImageError("the picture must show one digit; got a shape much wider than high; is it turned?")
    near = np.isin(labels, large)
    for _ in range(max(1, max(ink.shape) // 64)):  # strokes fade over a pixel or more, and keep their edges
        near = _neighbours(near).any(axis=0)
    return np.where(near, ink, 0)


Box = tuple[slice, slice]  # rows, columns


def _box(mask: np.ndarray) -> Box:
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)


def _length(box: Box, axis: int) -> int:
    return int(box[axis].stop - box[axis].start)


def _side_by_side(one: Box, other: Box, whole: Box) -> bool:
    """Whether both are tall and hardly overlap sideways; a four's two strokes do."""
    tall = min(_length(one, 0), _length(other, 0)) >= 0.6 * _length(whole, 0)
    return tall and -_gap(one, other, 1) < 0.25 * min(_length(one, 1), _length(other, 1))


def _stacked(one: Box, other: Box, whole: Box) -> bool:
    """Whether neither is flat, as a five's roof is, and white paper lies between them."""
    tall = min(_length(one, 0), _length(other, 0)) >= 0.25 * _length(whole, 0)
    return tall and _gap(one, other, 0) > 0.05 * _length(whole, 0)


def _gap(one: Box, other: Box, axis: int) -> int:
    """Pixels between two shapes along an axis; negative where they overlap."""
    return int(max(one[axis].start, other[axis].start) - min(one[axis].stop, other[axis].stop))


def _components(mask: np.ndarray) -> np.ndarray:
    """Numbers the connected shapes of a mask from 1; diagonal neighbours are connected."""
    labels = np.where(mask, np.arange(1, mask.size + 1).reshape(mask.shape), 0)
    while True:
        largest = np.where(mask, _neighbours(labels).max(axis=0), 0)
        # Each label points at a pixel; following the pointer makes long shapes settle in few rounds.
        largest = np.where(mask, largest.reshape(-1)[largest - 1], 0)
        if np.array_equal(largest, labels):
            return np.unique(labels, return_inverse=True)[1].reshape(mask.shape)
        labels = largest


def _neighbours(values: np.ndarray) -> np.ndarray:
    """Each pixel's nine values, `[9, h, w]`: its own and those around it."""
    height, width = values.shape
    padded = np.pad(values, 1)
    return np.stack([padded[i : i + height, j : j + width] for i in range(3) for j in range(3)])


def frame(ink: np.ndarray) -> np.ndarray:
    """Ink, float `[h, w]`, as uint8 `[28, 28]`: 20 pixels on the longer side, centre of mass in the middle.

    The brightest pixel becomes 255, as in MNIST: thin strokes fade when they shrink.

    Raises:
        ImageError: there is no ink.
    """
    if not (ink > 0).any():
        raise ImageError("the picture must show a digit; got no ink")
    rows, columns = _box(ink > 0)
    digit = ink[rows, columns]
    scale = 20 / max(digit.shape)
    height, width = (max(1, round(length * scale)) for length in digit.shape)
    digit = resize(digit, height, width)
    digit = np.rint(255 / digit.max() * digit).astype(np.uint8)
    top, left = (_offset(digit.sum(axis=1 - axis), digit.shape[axis]) for axis in (0, 1))
    framed = np.zeros((28, 28), np.uint8)
    framed[top : top + height, left : left + width] = digit
    return framed


def _offset(mass: np.ndarray, length: int) -> int:
    """Where a row of that mass begins, so that its centre is at 13.5 to 14.5, where all of MNIST's are."""
    centre = float(mass @ np.arange(length)) / float(mass.sum())
    return int(np.clip(np.floor(14.5 - centre), 0, 28 - length))


def resize(images: np.ndarray, height: int, width: int) -> np.ndarray:
    """Pictures `[..., h, w]` in another size: means over areas to shrink, bilinear to grow."""
    return np.asarray(_weights(images.shape[-2], height) @ images @ _weights(images.shape[-1], width).T)


def _weights(old: int, new: int) -> np.ndarray:
    """Row i says how much of each old pixel is in new pixel i."""
    scale = old / new
    if scale <= 1:
        centres = ((np.arange(new) + 0.5) * scale - 0.5).clip(0, old - 1)
        return np.asarray(np.maximum(0, 1 - np.abs(centres[:, None] - np.arange(old))))
    starts, pixels = np.arange(new)[:, None] * scale, np.arange(old)
    overlap = np.minimum(starts + scale, pixels + 1) - np.maximum(starts, pixels)
    return np.asarray(overlap.clip(0) / scale)


def _from_array(picture: Any) -> Image.Image:
    try:
        array = as_array("picture", picture, "a Pillow image or an array")
    except InputError as error:
        raise ImageError(str(error)) from None
    shaped = array.ndim == 2 or (array.ndim == 3 and array.shape[2] in (3, 4))
    if not shaped or array.dtype != np.uint8 or not array.size:
        raise ImageError(
            f"a picture must be uint8 [h, w], or [h, w, 3 or 4]; got {array.dtype} {list(array.shape)}"
        )
    return Image.fromarray(np.asarray(array))


def _grey(picture: Image.Image) -> np.ndarray:
    """Brightness, float `[h, w]` in 0..1, at working size; what is transparent becomes paper."""
    if picture.mode.startswith(("I", "F")):  # 16 bits or more, which Pillow would cut off at 255
        values = np.asarray(picture, np.float64)
        top = 65535 if values.max() > 255 else 255
        picture = Image.fromarray(np.clip(values * (255 / top), 0, 255).astype(np.uint8))
    picture = picture.convert("RGBA" if picture.has_transparency_data else "L")
    picture.thumbnail((WORKING_SIZE, WORKING_SIZE))
    if picture.mode == "L":
        return np.asarray(picture, np.float64) / 255
    grey = np.asarray(picture.convert("L"), np.float64) / 255
    alpha = np.asarray(picture.getchannel("A"), np.float64) / 255
    drawn = float((grey * alpha).sum() / max(alpha.sum(), 1e-9))
    return grey * alpha + (0.0 if drawn > 0.5 else 1.0) * (1 - alpha)
