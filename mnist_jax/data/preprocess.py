"""Preprocessing of photos, scans and drawings of a digit into 28x28 images like those of MNIST.

`isolate` separates the ink from the paper, dark or light, evenly lit or not. `frame` then follows MNIST: it
scales the digit to 20 pixels on its longer side, with anti-aliasing, and puts it in 28x28 with its center of
mass in the middle (LeCun, Cortes, Burges: The MNIST database). MNIST's own images pass unchanged, to one gray
level. Uses NumPy and Pillow only.

Raises, on import:
    NotInstalledError: if Pillow is not installed.
"""

import warnings
from io import BytesIO
from os import PathLike, fspath
from typing import Any

import numpy as np

from mnist_jax._utils.atomic_io import read_bytes
from mnist_jax.config.input_checks import as_array
from mnist_jax.errors import ImageError, InputError, NotInstalledError

try:
    from PIL import Image, ImageOps
except ModuleNotFoundError as error:
    raise NotInstalledError("mnist_jax.data.preprocess", error) from None

MAX_PIXELS = 50_000_000
MAX_FILE_SIZE = 2**28  # bytes, more than MAX_PIXELS need without compression
WORKING_SIZE = 256  # pixels on the longer side; strokes are still several pixels wide
FORMATS = ("PNG", "JPEG", "WEBP", "BMP")


def prepare(picture: Image.Image | np.ndarray) -> np.ndarray:
    """Preprocess a picture of one digit as MNIST did.

    Args:
        picture: a Pillow image of any size and mode, or an array, uint8 `[h, w]` or `[h, w, 3 or 4]` (RGB,
            RGBA).

    Returns:
        The image, uint8 `[28, 28]`, white on black.

    Raises:
        ImageError: if it shows no digit or several, or is no image or an array of another shape or dtype.

    Examples:
        >>> import numpy as np
        >>> from mnist_jax import preprocess
        >>> photo = np.full((90, 60), 240, np.uint8)  # light paper
        >>> photo[20:70, 28:33] = 30  # a dark stroke, the digit 1
        >>> preprocess.prepare(photo)[14, 12:17].tolist()
        [0, 0, 255, 255, 0]
    """
    if isinstance(picture, str | bytes | PathLike):
        raise ImageError(f"prepare takes a Pillow image or an array; got {picture!r}; read() opens files")
    if not isinstance(picture, Image.Image):
        picture = _from_array(picture)
    if not picture.width * picture.height:
        raise ImageError(f"a picture must have pixels; got {picture.width} x {picture.height} of them")
    return frame(one_digit(isolate(_gray(picture))))


def read(source: str | PathLike[str] | bytes) -> Image.Image:
    """Open a PNG, JPEG, WebP or BMP file, or its bytes, in the orientation that its metadata states.

    Raises:
        ImageError: if it is missing, damaged, in another format or larger than 50 million pixels.
    """
    name = "the picture" if isinstance(source, bytes) else fspath(source)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about large images, which are an error below
            data = source if isinstance(source, bytes) else read_bytes(source, MAX_FILE_SIZE)
            picture = Image.open(BytesIO(data), formats=FORMATS)
            width, height = picture.size
            if width * height > MAX_PIXELS:
                raise ImageError(
                    f"{name} must have at most {MAX_PIXELS:,} pixels; got {width:,} x {height:,}"
                )
            picture.draft("L", (2 * WORKING_SIZE, 2 * WORKING_SIZE))  # decode a JPEG no larger than needed
            return ImageOps.exif_transpose(picture)
    except ImageError:
        raise
    except Image.DecompressionBombError:
        raise ImageError(f"{name} must have at most {MAX_PIXELS:,} pixels; got far more") from None
    except OSError as error:  # Pillow's own errors do not name the file
        reason = error.strerror or "it is not one, or it is damaged"
        raise ImageError(f"{name} must be a PNG, JPEG, WebP or BMP picture; {reason}") from None
    except Exception as error:  # Pillow's decoders may raise anything for a damaged file
        reason = " ".join(str(error).split())
        raise ImageError(f"{name} must be a whole picture; it cannot be decoded: {reason}") from None


def isolate(gray: np.ndarray) -> np.ndarray:
    """Separate ink from paper in a gray image, float `[h, w]` in 0..1.

    The paper is modeled as a quadratic surface in x and y, fitted to the pixels without ink. Ink is what
    deviates from it by more than the paper's noise, in the direction of the larger deviations.

    Returns:
        The ink, float `[h, w]` in 0..1, 0 on bare paper.

    Raises:
        ImageError: if nothing stands out from the paper.
    """
    deviation = gray - _paper(gray)
    if (deviation**3).sum() < 0:  # the ink is in the longer tail: dark on light
        deviation = -deviation
    noise = 1.4826 * float(np.median(np.abs(deviation)))
    strongest = float(deviation.max())
    if strongest < max(12 / 255, 8 * noise):
        raise ImageError("the picture must show a digit that stands out from the paper; got a blank one")
    if noise < 1 / 255:  # clean paper: keep every gray level
        return np.asarray(np.where(deviation < 0.5 / 255, 0, deviation / strongest))
    floor, full = 3 * noise, float(np.percentile(deviation[deviation > 0.5 * strongest], 50))
    return np.asarray(np.clip((deviation - floor) / (full - floor), 0, 1))


def _paper(gray: np.ndarray) -> np.ndarray:
    height, width = gray.shape
    y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
    terms = np.stack([np.ones_like(x), x, y, x * y, x * x, y * y], axis=-1).reshape(-1, 6)
    values = gray.reshape(-1)
    # A robust fit: start from the median and drop the outliers, which are ink.
    fit = np.array([float(np.median(values)), 0, 0, 0, 0, 0])
    for _ in range(8):
        deviation = np.abs(values - terms @ fit)
        inliers = deviation <= max(2.5 * float(np.median(deviation)), 2 / 255)
        fit = np.linalg.lstsq(terms[inliers], values[inliers], rcond=1e-6)[0]
    paper: np.ndarray = (terms @ fit).reshape(height, width)
    return paper


def one_digit(ink: np.ndarray) -> np.ndarray:
    """Remove specks from the ink and check that the rest can be one digit.

    Raises:
        ImageError: if there are several shapes side by side or stacked, or a horizontal line.
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
        raise ImageError("the picture must show one digit; got a shape much wider than high; is it rotated?")
    kept = np.isin(labels, large)
    for _ in range(max(1, max(ink.shape) // 64)):  # grow the mask, to keep the soft edges of the strokes
        kept = _neighbors(kept).any(axis=0)
    return np.where(kept, ink, 0)


Box = tuple[slice, slice]  # rows, columns


def _box(mask: np.ndarray) -> Box:
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)


def _length(box: Box, axis: int) -> int:
    return int(box[axis].stop - box[axis].start)


def _side_by_side(one: Box, other: Box, whole: Box) -> bool:
    """Whether both shapes are tall and hardly overlap horizontally, unlike the two strokes of a four."""
    tall = min(_length(one, 0), _length(other, 0)) >= 0.6 * _length(whole, 0)
    return tall and -_gap(one, other, 1) < 0.25 * min(_length(one, 1), _length(other, 1))


def _stacked(one: Box, other: Box, whole: Box) -> bool:
    """Whether there is paper between two shapes and neither is flat like the top stroke of a five."""
    tall = min(_length(one, 0), _length(other, 0)) >= 0.25 * _length(whole, 0)
    return tall and _gap(one, other, 0) > 0.05 * _length(whole, 0)


def _gap(one: Box, other: Box, axis: int) -> int:
    """Pixels between two shapes along an axis; negative if they overlap."""
    return int(max(one[axis].start, other[axis].start) - min(one[axis].stop, other[axis].stop))


def _components(mask: np.ndarray) -> np.ndarray:
    """Label the connected components of a mask from 1; diagonal neighbors are connected."""
    labels = np.where(mask, np.arange(1, mask.size + 1).reshape(mask.shape), 0)
    while True:
        largest = np.where(mask, _neighbors(labels).max(axis=0), 0)
        # Each label is also a pixel's index; following it makes long shapes converge in few iterations.
        largest = np.where(mask, largest.reshape(-1)[largest - 1], 0)
        if np.array_equal(largest, labels):
            return np.unique(labels, return_inverse=True)[1].reshape(mask.shape)
        labels = largest


def _neighbors(values: np.ndarray) -> np.ndarray:
    """The 3x3 neighborhood of each pixel, `[9, h, w]`."""
    height, width = values.shape
    padded = np.pad(values, 1)
    return np.stack([padded[i : i + height, j : j + width] for i in range(3) for j in range(3)])


def frame(ink: np.ndarray) -> np.ndarray:
    """Scale ink, float `[h, w]`, to 20 pixels on the longer side and center its mass in uint8 `[28, 28]`.

    The brightest pixel becomes 255, as in MNIST, because thin strokes fade when they are scaled down.

    Raises:
        ImageError: if there is no ink.
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
    """The offset along an axis that moves the center of mass to 13.5..14.5, where it is in all of MNIST."""
    center = float(mass @ np.arange(length)) / float(mass.sum())
    return int(np.clip(np.floor(14.5 - center), 0, 28 - length))


def resize(images: np.ndarray, height: int, width: int) -> np.ndarray:
    """Resize images `[..., h, w]`: by area averages to shrink, bilinearly to enlarge."""
    return np.asarray(_weights(images.shape[-2], height) @ images @ _weights(images.shape[-1], width).T)


def _weights(old: int, new: int) -> np.ndarray:
    """The resampling matrix `[new, old]`: how much each old pixel contributes to each new one."""
    scale = old / new
    if scale <= 1:
        centers = ((np.arange(new) + 0.5) * scale - 0.5).clip(0, old - 1)
        return np.asarray(np.maximum(0, 1 - np.abs(centers[:, None] - np.arange(old))))
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


def _gray(picture: Image.Image) -> np.ndarray:
    """Brightness, float `[h, w]` in 0..1, at working size; transparent pixels become paper."""
    if picture.mode.startswith(("I", "F")):  # 16 bits or more, which Pillow would clip at 255
        values = np.asarray(picture, np.float64)
        top = 65535 if values.max() > 255 else 255
        picture = Image.fromarray(np.clip(values * (255 / top), 0, 255).astype(np.uint8))
    picture = picture.convert("RGBA" if picture.has_transparency_data else "L")
    picture.thumbnail((WORKING_SIZE, WORKING_SIZE))
    if picture.mode == "L":
        return np.asarray(picture, np.float64) / 255
    gray = np.asarray(picture.convert("L"), np.float64) / 255
    alpha = np.asarray(picture.getchannel("A"), np.float64) / 255
    opaque = float((gray * alpha).sum() / max(alpha.sum(), 1e-9))
    return gray * alpha + (0.0 if opaque > 0.5 else 1.0) * (1 - alpha)
