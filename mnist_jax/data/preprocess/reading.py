"""Reads picture files."""

import warnings
from collections.abc import Callable
from io import BytesIO
from os import PathLike, fspath
from typing import Any

import cv2
import numpy as np
from PIL import Image, ImageOps

from mnist_jax._utils.atomic_io import read_bytes
from mnist_jax.config.input_checks import as_array
from mnist_jax.errors import ImageError, InputError

MAX_PIXELS = 50_000_000
MAX_FILE_SIZE = 2**28  # bytes, more than MAX_PIXELS need without compression
FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "TIFF", "GIF")
HEIC_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"mif1", b"msf1")
NAMES = "PNG, JPEG, WebP, BMP, TIFF or GIF"
SUFFIXES = frozenset(
    (".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".webp", ".bmp", ".tif", ".tiff", ".gif", ".heic", ".heif")
)
WORKING_SIZE = 1024  # pixels on the longer side; a digit of 3 % of a photo still has 30
OPAQUE = 250  # alpha, 0..255
OVERSHOOT = 1.1  # the largest value of floats whose range is 0..1


def read(source: str | PathLike[str] | bytes) -> Image.Image:
    """Open a picture file, or its bytes, in the orientation that its metadata states.

    The content decides on the format, not the name: PNG, JPEG, WebP, BMP, TIFF, GIF (its first frame), and
    HEIC where the extra `heic` is installed.

    Raises:
        ImageError: if it is missing, damaged, in another format or larger than 50 million pixels.
    """
    name = "the picture" if isinstance(source, bytes) else fspath(source)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about large images, which are an error below
            data = source if isinstance(source, bytes) else read_bytes(source, MAX_FILE_SIZE)
            picture = (
                Image.open(BytesIO(data), formats=FORMATS) if not _is_heic(data) else _open_heic(name, data)
            )
            width, height = picture.size
            if width * height > MAX_PIXELS:
                raise ImageError(
                    f"{name} must have at most {MAX_PIXELS:,} pixels; got {width:,} x {height:,}"
                )
            picture.draft("RGB", (WORKING_SIZE, WORKING_SIZE))  # decode a JPEG no larger than needed
            return ImageOps.exif_transpose(picture)
    except ImageError:
        raise
    except Image.DecompressionBombError:
        raise ImageError(f"{name} must have at most {MAX_PIXELS:,} pixels; got far more") from None
    except OSError as error:  # Pillow's own errors do not name the file
        reason = error.strerror or "it is not one, or it is damaged"
        raise ImageError(f"{name} must be a {NAMES} picture; {reason}") from None
    except Exception as error:  # Pillow's decoders may raise anything for a damaged file
        reason = " ".join(str(error).split())
        raise ImageError(f"{name} must be a whole picture; it cannot be decoded: {reason}") from None


def converted(convert: Callable[[Image.Image], Any], path: str | PathLike[str]) -> tuple[str, Any]:
    """The name of a picture file, and what `convert` makes of it or the `ImageError` that it caused."""
    try:
        return str(path), convert(read(path))
    except ImageError as error:
        return str(path), error


def _is_heic(data: bytes) -> bool:
    return data[4:8] == b"ftyp" and data[8:12] in HEIC_BRANDS


def _open_heic(name: str, data: bytes) -> Image.Image:
    try:
        import pillow_heif
    except ModuleNotFoundError:
        raise ImageError(
            f"{name} must be a {NAMES} picture; got HEIC, for which: pip install 'mnist-jax[heic]'"
        ) from None
    opened = pillow_heif.open_heif(BytesIO(data), convert_hdr_to_8bit=True)
    picture: Image.Image = opened.to_pillow()
    return picture


def as_rgb(picture: Image.Image | np.ndarray) -> np.ndarray:
    """A picture of any mode and depth as RGB.

    Of a picture with an opaque part, such as a window's capture, it is this part. Strokes on transparency get
    paper of the opposite tone. Values beyond 8 bits are scaled by their own largest.

    Args:
        picture: a Pillow image of any size and mode, or an array `[h, w]` or `[h, w, 3 or 4]`: integers, or
            floats of any range from 0 on.

    Returns:
        uint8 `[h, w, 3]`.

    Raises:
        ImageError: if it is no picture.
    """
    if isinstance(picture, str | bytes | PathLike):
        raise ImageError(f"prepare takes a Pillow image or an array; got {picture!r}; read() opens files")
    if not isinstance(picture, Image.Image):
        picture = _from_array(picture)
    if not picture.width * picture.height:
        raise ImageError(f"a picture must have pixels; got {picture.width} x {picture.height} of them")
    if picture.mode == "La":
        picture = picture.convert("LA")
    if picture.mode.startswith(("I", "F")):
        picture = Image.fromarray(_to_8_bits(np.asarray(picture)))
    if picture.has_transparency_data:
        picture = _opaque_part(picture.convert("RGBA"))
    return np.asarray(picture.convert("RGB"))


def reduced(rgb: np.ndarray, longest: int = WORKING_SIZE) -> np.ndarray:
    """A picture `[h, w]` or `[h, w, 3]` with at most `longest` pixels on its longer side."""
    scale = longest / max(rgb.shape)
    if scale >= 1:
        return rgb
    size = max(1, round(scale * rgb.shape[1])), max(1, round(scale * rgb.shape[0]))
    smaller: np.ndarray = cv2.resize(rgb, size, interpolation=cv2.INTER_AREA)
    return smaller


def _to_8_bits(values: np.ndarray) -> np.ndarray:
    """Scales values by the smallest of the usual ranges that holds them: 1, or a power of two from 255 on."""
    floats = values.dtype.kind == "f"
    values = np.asarray(values, np.float64)
    largest = float(values.max())
    if not np.isfinite(values).all() or values.min() < 0:
        raise ImageError(f"a picture must have finite values from 0 on; got {values.min()} to {largest}")
    if floats and largest <= OVERSHOOT:
        values = values.clip(0, 1)  # which interpolation may leave a little
        largest = min(largest, 1.0)
    top = 1.0 if largest <= 1 else 255.0 if largest <= 255 else 2.0 ** np.ceil(np.log2(largest + 1)) - 1
    return np.rint(values * (255 / top)).astype(np.uint8)


def _from_array(picture: Any) -> Image.Image:
    try:
        array = as_array("picture", picture, "a Pillow image or an array")
    except InputError as error:
        raise ImageError(str(error)) from None
    shaped = array.ndim == 2 or (array.ndim == 3 and array.shape[2] in (3, 4))
    if not shaped or array.dtype.kind not in "buif" or not array.size:
        raise ImageError(
            f"a picture must be numbers [h, w], or [h, w, 3 or 4]; got {array.dtype} {list(array.shape)}"
        )
    return Image.fromarray(
        np.asarray(array) if array.dtype == np.uint8 and array.max() > 1 else _to_8_bits(array)
    )


def _opaque_part(picture: Image.Image) -> Image.Image:
    values = np.asarray(picture)
    opaque = values[..., 3] >= OPAQUE
    if opaque.any():
        rows, columns = np.flatnonzero(opaque.any(axis=1)), np.flatnonzero(opaque.any(axis=0))
        part = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
        # A window is a rectangle with something in it; strokes are neither.
        if opaque[part].mean() > 0.9:
            colors = values[part][..., :3].copy()
            colors[~opaque[part]] = np.median(colors[opaque[part]], axis=0)  # round corners
            return Image.fromarray(colors)
    alpha = values[..., 3:] / 255.0
    tone = float((values[..., :3] * alpha).sum() / max(3 * alpha.sum(), 1e-9))
    return Image.fromarray(
        np.rint(values[..., :3] * alpha + (0.0 if tone > 127 else 255.0) * (1 - alpha)).astype(np.uint8)
    )
