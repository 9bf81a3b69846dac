"""Preprocessing of pictures of all kinds."""

import io
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from helpers.pictures import TWO, drawing
from PIL import Image, ImageDraw, ImageFilter

from mnist_jax.data.datasets import load
from mnist_jax.data.preprocess import frame, prepare, read, resize
from mnist_jax.errors import ImageError

EXPECTED = prepare(drawing())


def close(picture: np.ndarray, tolerance: float = 12) -> bool:
    """Whether a preprocessed picture equals the two, up to resampling at its edges."""
    return float(np.abs(picture.astype(float) - EXPECTED).mean()) < tolerance


def test_prepared_pictures_have_the_size_position_and_range_of_mnist() -> None:
    assert (EXPECTED.shape, EXPECTED.dtype, EXPECTED.max()) == ((28, 28), np.uint8, 255)
    rows, columns = np.flatnonzero(EXPECTED.any(axis=1)), np.flatnonzero(EXPECTED.any(axis=0))
    assert max(np.ptp(rows), np.ptp(columns)) + 1 == 20
    mass = EXPECTED.astype(float)
    for axis in (0, 1):
        center = (mass.sum(axis=1 - axis) @ np.arange(28)) / mass.sum()
        assert 13.5 <= center < 14.5


def as_png(picture: Image.Image) -> Image.Image:
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return read(buffer.getvalue())


def transparent(ink: int) -> Image.Image:
    alpha = drawing(paper=0, ink=255)
    layer = Image.new("L", alpha.size, ink)
    return Image.merge("RGBA", (layer, layer, layer, alpha))


def rotated_by_exif() -> Image.Image:
    exif = Image.Exif()
    exif[0x0112] = 6  # rotated by 90 degrees
    buffer = io.BytesIO()
    drawing().transpose(Image.Transpose.ROTATE_90).save(buffer, "JPEG", exif=exif, quality=95)
    return read(buffer.getvalue())


def off_center() -> Image.Image:
    page = Image.new("L", (1600, 1000), 255)
    page.paste(drawing(300), (1200, 50))
    return page


def photograph() -> Image.Image:
    """Gray ink on unevenly lit paper, with noise and blur."""
    ink = np.asarray(drawing(600, 0, 255).filter(ImageFilter.GaussianBlur(3)), float) / 255
    y, x = np.mgrid[-1:1:600j, -1:1:600j]
    lighting = 0.65 + 0.25 * x - 0.1 * y + 0.05 * x * y
    noise = np.random.default_rng(0).normal(0, 0.02, ink.shape)
    gray = np.clip(lighting * (1 - 0.7 * ink) + noise, 0, 1)
    return Image.fromarray((255 * gray).astype(np.uint8))


@pytest.mark.parametrize(
    "make",
    [
        lambda: drawing(100),
        lambda: drawing(1500),
        lambda: drawing(paper=0, ink=255),
        lambda: drawing(paper=200, ink=120),
        lambda: drawing(paper=60, ink=150),
        lambda: drawing().convert("RGB"),
        lambda: drawing().convert("P"),
        lambda: drawing().convert("1"),
        lambda: drawing().convert("CMYK"),
        lambda: as_png(Image.fromarray(np.asarray(drawing()).astype(np.uint16) * 257)),
        lambda: as_png(transparent(0)),
        lambda: as_png(transparent(255)),
        rotated_by_exif,
        off_center,
        photograph,
        lambda: Image.eval(photograph(), lambda value: 255 - value),
    ],
)
def test_pictures_of_the_same_digit_give_similar_results(make: Callable[[], Image.Image]) -> None:
    assert close(prepare(make()))


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "BMP", "TIFF", "GIF"])
def test_every_format_can_be_read_from_a_file(tmp_path: Path, kind: str) -> None:
    path = tmp_path / f"two.{kind.lower()}"
    drawing().convert("RGB").save(path, kind)
    assert close(prepare(read(path)))


def test_prepare_accepts_arrays() -> None:
    gray = np.asarray(drawing())
    assert close(prepare(gray))
    assert close(prepare(np.stack([gray] * 3, axis=-1)))


def page(*strokes: tuple[list[tuple[float, float]], int, int]) -> Image.Image:
    picture = Image.new("L", (900, 900), 255)
    for lines, x, y in strokes:
        picture.paste(drawing(300, strokes=lines), (x, y))
    return picture


ONE = [(0.5, 0.15), (0.5, 0.85)]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: page((TWO, 100, 300), (ONE, 500, 300)), "must show one digit; got 2 separate shapes"),
        (lambda: page((TWO, 300, 50), (TWO, 300, 550)), "must show one digit; got 2 separate shapes"),
        (lambda: page((ONE, 0, 0), (ONE, 300, 0), (ONE, 600, 0)), "got 3 separate shapes"),
        (lambda: drawing(strokes=[(0.1, 0.5), (0.9, 0.5)]), "much wider than high; is it rotated?"),
        (lambda: Image.new("L", (200, 100), 255), "stands out from the paper; got a blank one"),
        (lambda: Image.new("RGBA", (200, 100)), "got a blank one"),
        (lambda: Image.linear_gradient("L"), "got a blank one"),
        (
            lambda: Image.fromarray(np.random.default_rng(0).normal(128, 20, (300, 300)).astype(np.uint8)),
            "got a blank one",
        ),
        (lambda: Image.new("L", (1, 1), 7), "got a blank one"),
    ],
)
def test_a_picture_without_exactly_one_digit_is_rejected(
    make: Callable[[], Image.Image], message: str
) -> None:
    with pytest.raises(ImageError, match=message):
        prepare(make())


def test_specks_and_detached_strokes_are_not_a_second_digit() -> None:
    picture = drawing()
    ImageDraw.Draw(picture).ellipse((20, 20, 30, 30), fill=0)
    assert close(prepare(picture))
    five = drawing(strokes=[(0.4, 0.4), (0.65, 0.45), (0.7, 0.65), (0.5, 0.85), (0.3, 0.8)])
    ImageDraw.Draw(five).line([(160, 80), (290, 70)], fill=0, width=30)  # its top stroke, slightly detached
    assert prepare(five).any()


def huge_png() -> bytes:
    header = struct.pack(">IIBBBBB", 100_000, 100_000, 8, 0, 0, 0, 0)

    def chunk(content: bytes) -> bytes:
        return struct.pack(">I", len(content) - 4) + content + struct.pack(">I", zlib.crc32(content))

    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR" + header) + chunk(b"IDAT" + zlib.compress(bytes(100)))


def test_errors_for_damaged_and_unsupported_files_name_the_file(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    drawing().save(buffer, "PNG")
    good = buffer.getvalue()
    path = tmp_path / "picture.png"
    for data, message in (
        (b"", "must be a PNG, JPEG, WebP, BMP, TIFF or GIF picture"),
        (b"GIF89a" + bytes(100), "must be a PNG, JPEG, WebP, BMP, TIFF or GIF picture"),
        (good[: len(good) // 2], "must be a"),
        (huge_png(), "must have at most 50,000,000 pixels"),
    ):
        path.write_bytes(data)
        with pytest.raises(ImageError, match=message) as caught:
            prepare(read(path))
        assert str(path) in str(caught.value)
        assert "\n" not in str(caught.value)
    with pytest.raises(ImageError, match="No such file"):
        read(tmp_path / "nothing.png")
    with pytest.raises(ImageError, match="directory"):
        read(tmp_path)


@pytest.mark.slow
def test_corrupted_bytes_give_a_picture_or_an_image_error() -> None:
    rng = np.random.default_rng(0)
    for kind in ("PNG", "JPEG", "WEBP", "BMP", "TIFF", "GIF"):
        buffer = io.BytesIO()
        drawing(64).save(buffer, kind)
        for _ in range(100):
            data = bytearray(buffer.getvalue())
            for position in rng.integers(0, len(data), 3):
                data[position] = rng.integers(256)
            try:
                assert prepare(read(bytes(data))).shape == (28, 28)
            except ImageError as error:
                assert "\n" not in str(error)


@pytest.mark.parametrize(
    "array", [np.zeros((3, 3), complex), np.zeros((3, 3, 2), np.uint8), np.zeros((0, 5), np.uint8)]
)
def test_invalid_arrays_are_rejected(array: np.ndarray) -> None:
    with pytest.raises(ImageError, match=r"a picture must be numbers \[h, w\], or"):
        prepare(array)


def test_resize_averages_to_shrink_and_interpolates_to_enlarge() -> None:
    np.testing.assert_allclose(resize(np.arange(16.0).reshape(4, 4), 2, 2), [[2.5, 4.5], [10.5, 12.5]])
    np.testing.assert_allclose(resize(np.array([[0.0, 3.0]]), 1, 3), [[0, 1.5, 3]])
    picture = np.random.default_rng(0).random((5, 7))
    np.testing.assert_allclose(resize(picture, 5, 7), picture)
    np.testing.assert_allclose(resize(picture, 3, 2).mean(), picture.mean())


def test_mnists_own_images_stay_unchanged(mnist_dir: Path) -> None:
    images = np.asarray(load("mnist", mnist_dir, validation_fraction=0).train.images[:2000])
    changes = [np.abs(frame(image / 255).astype(int) - image).max() for image in images]
    assert sum(change <= 2 for change in changes) >= 1998
