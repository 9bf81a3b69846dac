"""The kinds of photographs: each a function of a 28x28 digit and a random generator."""

from collections.abc import Callable

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from bench.photos import scene as s

Kind = Callable[[np.ndarray, np.random.Generator], Image.Image]
COLORS = {
    "white": (240, 240, 238), "yellow": (245, 225, 110), "pink": (240, 170, 190), "sky": (160, 205, 235),
    "mint": (175, 225, 185), "kraft": (190, 150, 105), "black": (20, 20, 25), "blue": (25, 45, 150),
    "red": (190, 25, 35), "green": (15, 110, 55), "purple": (95, 30, 130), "orange": (225, 110, 20),
}  # fmt: skip
PAPERS, PENS = list(COLORS)[:6], list(COLORS)[6:]


def _sheet(rng: np.random.Generator) -> s.Scene:
    return s.light_paper(int(rng.integers(280, 560)), int(rng.integers(280, 560)), rng)


def _write(sheet: s.Scene, digit: np.ndarray, rng: np.random.Generator, ink: s.RGB | None = None,
           share: tuple[float, float] = (0.3, 0.6)) -> s.Scene:  # fmt: skip
    coverage = s.strokes(digit, round(min(sheet.shape[:2]) * rng.uniform(*share)), rng)
    return s.draw(sheet, coverage, *s.inside(sheet, coverage, rng), ink or s.dark_ink(rng))


def _lines(sheet: s.Scene, rng: np.random.Generator, spacing: int, across: bool, color: s.RGB) -> s.Scene:
    """The sheet with printed lines, from edge to edge, and slightly slanted."""
    height, width = sheet.shape[:2]
    picture = Image.fromarray(sheet.astype(np.uint8))
    pen, thickness, slant = ImageDraw.Draw(picture), int(rng.integers(1, 4)), rng.uniform(-0.02, 0.02)
    fill = tuple(int(value) for value in color)
    for at in range(int(rng.integers(0, spacing)), width if across else height, spacing):
        if across:
            pen.line([(at, 0), (at + slant * height, height)], fill=fill, width=thickness)
        else:
            pen.line([(0, at), (width, at + slant * width)], fill=fill, width=thickness)
    return np.asarray(picture, np.float64)


def with_lines(sheet: s.Scene, rng: np.random.Generator, spacing: int) -> s.Scene:
    """The sheet, ruled."""
    return _lines(sheet, rng, spacing, False, _line_color(rng))


def _line_color(rng: np.random.Generator) -> s.RGB:
    tone = rng.uniform(110, 200)
    return (tone - rng.uniform(0, 50), tone, tone + rng.uniform(0, 40))


def _ruled_sheet(rng: np.random.Generator) -> s.Scene:
    sheet = _sheet(rng)
    sheet = with_lines(sheet, rng, int(min(sheet.shape[:2]) * rng.uniform(0.2, 0.5)))
    if rng.random() < 0.3:  # a red line at the margin
        at = int(rng.uniform(0.05, 0.1) * sheet.shape[1])
        sheet[:, at : at + 2] = (200, 70, 80)
    return sheet


def _squared_sheet(rng: np.random.Generator) -> s.Scene:
    sheet, color = _sheet(rng), _line_color(rng)
    spacing = int(min(sheet.shape[:2]) * rng.uniform(0.06, 0.2))
    for across in (False, True):
        sheet = _lines(sheet, rng, spacing, across, color)
    return sheet


def plain(digit: np.ndarray, rng: np.random.Generator) -> Image.Image:
    """A sheet that fills the picture."""
    return s.usual_camera(_write(_sheet(rng), digit, rng), rng)


def on_table(digit: np.ndarray, rng: np.random.Generator) -> Image.Image:
    """A sheet on a table, rotated and in perspective."""
    return s.usual_camera(s.on_table(_write(_sheet(rng), digit, rng), rng), rng)


def table_at_sides(digit: np.ndarray, rng: np.random.Generator) -> Image.Image:
    """A sheet with the table at one or two sides of the picture."""
    sheet = _write(_sheet(rng), digit, rng)
    height, width = sheet.shape[:2]
    ground = s.table(height, width, rng)
    y, x = np.mgrid[0:height, 0:width]
    for side in rng.permutation(4)[: int(rng.integers(1, 3))]:
        depth, slant = rng.uniform(0.03, 0.12), rng.uniform(-0.04, 0.04)
        distance = [x / width, 1 - x / width, y / height, 1 - y / height][side]
        along = [y / height, y / height, x / width, x / width][side]
        sheet = np.where((distance < depth + slant * along)[..., None], ground, sheet)
    return s.usual_camera(sheet, rng)


def window(digit: np.ndarray, rng: np.random.Generator) -> Image.Image:
    """A capture of a window: on transparency with a soft shadow, or on a desktop with a title bar."""
    height, width = int(rng.integers(240, 480)), int(rng.integers(240, 480))
    tone, edge = rng.uniform(225, 255), int(rng.integers(10, 60))
    sheet = _write(np.full((height, width, 3), tone), digit, rng, share=(0.35, 0.65))
    size = (width + 2 * edge, height + 2 * edge)
    if rng.random() < 0.7:
        picture = Image.new("RGBA", size, (0, 0, 0, 0))
        if rng.random() < 0.6:
            shadow = Image.new("L", size, 0)
            shadow.paste(int(rng.uniform(60, 140)), (edge, edge + 4, edge + width, edge + 4 + height))
            picture.putalpha(shadow.filter(ImageFilter.GaussianBlur(edge / 4)))
    else:
        picture = Image.new("RGBA", size, (*(int(v) for v in rng.integers(20, 160, 3)), 255))
        bar = tuple(int(v) for v in rng.integers(90, 240, 3))
        sheet[: int(rng.integers(18, 32))] = bar
    picture.paste(Image.fromarray(sheet.astype(np.uint8)), (edge, edge))
    return picture


def ruled(digit: np.ndarray, rng: np.random.Generator) -> Image.Image:
    """Ruled paper."""
    return s.usual_camera(_write(_ruled_sheet(rng), digit, rng), rng)


def squared(digit: np.ndarray, rng: np.random.Generator) -> Image.Image:
    """Squared paper."""
    return s.usual_camera(_write(_squared_sheet(rng), digit, rng), rng)


def boxed(digit: np.ndarray, rng: np.random.Generator) -> Image.Image:
    """A printed box around the digit, alone or first of a row, as on forms."""
    sheet = _sheet(rng)
    coverage = s.strokes(digit, round(min(sheet.shape[:2]) * rng.uniform(0.25, 0.4)), rng)
    height, width = coverage.shape
    side = int(max(height, width) * rng.uniform(1.15, 1.7))
    top, left = (int(rng.uniform(0.05, 0.95) * max(1, n - side)) for n in sheet.shape[:2])
    picture = Image.fromarray(sheet.astype(np.uint8))
    pen, tone = ImageDraw.Draw(picture), int(rng.uniform(20, 150))
    thickness = int(rng.integers(1, 5))
    for number in range(int(rng.integers(1, 4))):
        box = (left + number * side, top, left + (number + 1) * side, top + side)
        pen.rectangle(box, outline=(tone, tone, tone), width=thickness)
    at = top + (side - height) // 2, left + (side - width) // 2
    return s.usual_camera(s.draw(np.asarray(picture, np.float64), coverage, *at, s.dark_ink(rng)), rng)


def small(digit: np.ndarray, rng: np.random.Generator) -> Image.Image:
    """A digit of 3 to 8 % of the width of a large photo."""
    sheet = s.light_paper(int(rng.integers(1000, 1400)), int(rng.integers(1300, 1900)), rng)
    coverage = s.strokes(digit, round(sheet.shape[1] * rng.uniform(0.03, 0.08)), rng)
    return s.usual_camera(s.draw(sheet, coverage, *s.inside(sheet, coverage, rng), s.dark_ink(rng)), rng)


def hard_shadow(digit: np.ndarray, rng: np.random.Generator) -> Image.Image:
    """A hard shadow across the sheet."""
    sheet = _write(_sheet(rng), digit, rng)
    angle, offset = rng.uniform(0, 2 * np.pi), rng.uniform(-0.25, 0.25)
    penumbra = rng.uniform(0.5, 6) / min(sheet.shape[:2])
    return s.usual_camera(s.shaded(sheet, angle, offset, penumbra, rng.uniform(0.25, 0.55)), rng)


def colored(digit: np.ndarray, rng: np.random.Generator) -> Image.Image:
    """A colored pen on colored paper."""
    color, ink = COLORS[str(rng.choice(PAPERS))], COLORS[str(rng.choice(PENS))]
    sheet = s.paper(int(rng.integers(280, 560)), int(rng.integers(280, 560)), color, rng)
    return s.usual_camera(_write(sheet, digit, rng, ink), rng)


def notebook(digit: np.ndarray, rng: np.random.Generator) -> Image.Image:
    """A page with punched holes at its left or a spiral at its top, plain, ruled or squared."""
    make = [_sheet, _ruled_sheet, _squared_sheet][int(rng.integers(3))]
    sheet = make(rng)
    height, width = sheet.shape[:2]
    side = min(height, width)
    gap = round(0.16 * side)
    coverage = s.strokes(digit, round(side * rng.uniform(0.3, 0.55)), rng)
    top, left = s.inside(sheet[gap:, gap:], coverage, rng, 0.06)
    picture = Image.fromarray(
        s.draw(sheet, coverage, top + gap, left + gap, s.dark_ink(rng)).astype(np.uint8)
    )
    pen, dark = ImageDraw.Draw(picture), tuple(int(v) for v in rng.uniform(20, 110, 3))
    radius = side * rng.uniform(0.02, 0.035)
    if rng.random() < 0.5:
        for y in np.arange(rng.uniform(0.1, 0.3), 1, rng.uniform(0.25, 0.5)) * height:
            x = gap * 0.45
            pen.ellipse((x - radius, y - radius, x + radius, y + radius), fill=dark)
    else:
        for x in np.arange(0.03, 1, rng.uniform(0.05, 0.09)) * width:
            y, r = gap * 0.5, radius * 0.6
            pen.ellipse((x - r, y - r, x + r, y + r), fill=dark)
            pen.line([(x, y), (x + r / 2, 0)], fill=(60, 60, 65), width=max(2, round(r / 2)))
    return s.usual_camera(np.asarray(picture, np.float64), rng)


def tight_crop(digit: np.ndarray, rng: np.random.Generator) -> Image.Image:
    """Cropped to the ink, with a margin of at most 3 %."""
    coverage = s.strokes(digit, int(rng.integers(80, 400)), rng)
    pad = round(max(coverage.shape) * rng.uniform(0, 0.03))
    coverage = np.pad(coverage, pad)
    sheet = s.light_paper(coverage.shape[0], coverage.shape[1], rng)
    return s.usual_camera(s.draw(sheet, coverage, 0, 0, s.dark_ink(rng)), rng)


def phone(digit: np.ndarray, rng: np.random.Generator) -> Image.Image:
    """A phone's JPEG of low quality, with a vignette, grain and a color cast."""
    sheet = _write(_sheet(rng), digit, rng)
    height, width = sheet.shape[:2]
    y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
    vignette = 1 - rng.uniform(0.3, 0.6) * np.clip(x * x + y * y, 0, 2) / 2
    cast = np.array([1, rng.uniform(0.88, 1), rng.uniform(0.7, 0.95)])
    scene = s.lit(sheet * vignette[..., None] * cast, rng, rng.uniform(0, 0.3))
    return s.camera(
        scene, rng, blur=rng.uniform(0.5, 2), noise=rng.uniform(4, 10), quality=int(rng.integers(25, 70))
    )


def chalk(digit: np.ndarray, rng: np.random.Generator) -> Image.Image:
    """Chalk on a board that was wiped."""
    height, width = int(rng.integers(280, 560)), int(rng.integers(280, 560))
    tone = rng.uniform(30, 70)
    board = s.paper(height, width, (tone, tone + rng.uniform(0, 25), tone + rng.uniform(0, 10)), rng)
    board = board + 10 * s.smooth_noise(height, width, 5, rng)[..., None]
    tone = rng.uniform(190, 245)
    return s.usual_camera(_write(np.clip(board, 0, 255), digit, rng, (tone, tone, tone - 8)), rng)


def pencil(digit: np.ndarray, rng: np.random.Generator) -> Image.Image:
    """A faint pencil."""
    sheet = _sheet(rng)
    tone = float(sheet.mean()) - rng.uniform(45, 80)
    return s.usual_camera(_write(sheet, digit, rng, (tone, tone, tone)), rng)


def mixed(digit: np.ndarray, rng: np.random.Generator) -> Image.Image:
    """Ruled or squared paper on a table, in a soft shadow, by a phone."""
    sheet = (_ruled_sheet if rng.random() < 0.5 else _squared_sheet)(rng)
    scene = s.on_table(_write(sheet, digit, rng), rng, (0.6, 0.85))
    angle, offset = rng.uniform(0, 2 * np.pi), rng.uniform(-0.3, 0.3)
    darkness = rng.uniform(0.15, 0.45)
    return s.usual_camera(s.shaded(scene, angle, offset, rng.uniform(0.01, 0.1), darkness), rng)


KINDS: dict[str, Kind] = {
    kind.__name__.replace("_", " "): kind
    for kind in (
        plain, on_table, table_at_sides, window, ruled, squared, boxed, small,
        hard_shadow, colored, notebook, tight_crop, phone, chalk, pencil, mixed,
    )
}  # fmt: skip
