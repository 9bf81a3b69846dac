"""What a simulated photograph consists of: strokes, paper, a table, light and a camera.

A scene is float RGB `[h, w, 3]` in 0..255. Randomness comes from the generator that is passed.
"""

import io

import numpy as np
from PIL import Image, ImageFilter

Scene = np.ndarray
RGB = tuple[float, float, float]


def smooth_noise(height: int, width: int, cells: int, rng: np.random.Generator) -> np.ndarray:
    """Noise of mean 0 that varies over about 1 / cells of the picture, `[h, w]` in about -1..1."""
    coarse = rng.normal(0, 0.5, (cells, cells)).astype(np.float32)
    picture = Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)
    return np.asarray(picture, np.float64)


def strokes(digit: np.ndarray, size: int, rng: np.random.Generator) -> np.ndarray:
    """A 28x28 digit as strokes with sharp edges, coverage `[h, w]` in 0..1, cropped to the ink.

    The longer side is about `size` pixels.
    """
    side = max(28, round(size * 28 / 20))
    picture = Image.fromarray(digit).resize((side, side), Image.Resampling.BICUBIC)
    values = np.asarray(picture.filter(ImageFilter.GaussianBlur(side / 90)), np.float64) / 255
    threshold, softness = rng.uniform(0.35, 0.5), rng.uniform(0.1, 0.3)
    coverage = np.clip((values - threshold) / softness + 0.5, 0, 1)
    rows, columns = np.flatnonzero(coverage.max(1) > 0.05), np.flatnonzero(coverage.max(0) > 0.05)
    return coverage[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def paper(height: int, width: int, color: RGB, rng: np.random.Generator) -> Scene:
    """Paper of one color with a little texture."""
    texture = rng.uniform(0.5, 3) * smooth_noise(height, width, int(rng.integers(4, 12)), rng)
    grain = rng.normal(0, rng.uniform(0.2, 1.5), (height, width))
    return np.clip(np.array(color) + (texture + grain)[..., None], 0, 255)


def light_paper(height: int, width: int, rng: np.random.Generator) -> Scene:
    """White, gray or cream paper."""
    tone = rng.uniform(185, 250)
    return paper(height, width, (tone, tone - rng.uniform(0, 6), tone - rng.uniform(0, 25)), rng)


def table(height: int, width: int, rng: np.random.Generator) -> Scene:
    """A table: wood, plain or fabric, darker than paper, or lighter in one of ten."""
    base = np.array([rng.uniform(50, 150), rng.uniform(40, 120), rng.uniform(30, 110)])
    if rng.random() < 0.25:
        base[:] = rng.uniform(20, 130)
    scene = np.broadcast_to(base, (height, width, 3)).astype(np.float64)
    style = rng.choice(["wood", "plain", "fabric"])
    if style == "wood":
        grain = smooth_noise(height, 4, int(rng.integers(20, 60)), rng)[:, :1]
        scene = scene * (1 + 0.2 * grain + 0.05 * smooth_noise(height, width, 12, rng))[..., None]
    elif style == "fabric":
        scene = scene + rng.normal(0, rng.uniform(3, 12), (height, width, 1))
    return np.asarray(np.clip(scene + 4 * smooth_noise(height, width, 5, rng)[..., None], 0, 255))


def dark_ink(rng: np.random.Generator) -> RGB:
    """Black, blue or gray ink."""
    black, blue = rng.uniform(10, 70), rng.uniform(60, 160)
    return (black, black, black) if rng.random() < 0.6 else (rng.uniform(10, 50), rng.uniform(20, 70), blue)


def draw(scene: Scene, coverage: np.ndarray, top: int, left: int, ink: RGB) -> Scene:
    """The scene with strokes on it."""
    height, width = coverage.shape
    result = scene.copy()
    part = result[top : top + height, left : left + width]
    part += coverage[: part.shape[0], : part.shape[1], None] * (np.array(ink) - part)
    return result


def inside(
    scene: Scene, coverage: np.ndarray, rng: np.random.Generator, margin: float = 0.12
) -> tuple[int, int]:
    """A random place (top, left) at which all strokes and a margin around them are on the scene."""
    places = []
    for length, extent in zip(scene.shape[:2], coverage.shape, strict=True):
        edge = min(round(margin * min(scene.shape[:2])), (length - extent) // 2)
        places.append(int(rng.integers(edge, max(length - extent - edge, edge) + 1)))
    return places[0], places[1]


def lit(scene: Scene, rng: np.random.Generator, strength: float) -> Scene:
    """The scene under uneven light: a gradient in one direction, darker by up to `strength`."""
    height, width = scene.shape[:2]
    angle = rng.uniform(0, 2 * np.pi)
    y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
    ramp = (x * np.cos(angle) + y * np.sin(angle)) / np.sqrt(2)
    return np.asarray(scene * (1 - strength * (0.5 + 0.5 * ramp))[..., None])


def shaded(scene: Scene, angle: float, offset: float, penumbra: float, darkness: float) -> Scene:
    """The scene with a shadow on one side of a line.

    Args:
        scene: to be shaded.
        angle: of the line's normal, in radians.
        offset: of the line from the middle, of the scene's size.
        penumbra: width of the shadow's edge, likewise.
        darkness: the share of light that the shadow takes.
    """
    height, width = scene.shape[:2]
    y, x = np.mgrid[-0.5 : 0.5 : height * 1j, -0.5 : 0.5 : width * 1j]
    distance = x * np.cos(angle) + y * np.sin(angle) - offset
    return np.asarray(scene * (1 - darkness * np.clip(distance / penumbra + 0.5, 0, 1))[..., None])


def camera(scene: Scene, rng: np.random.Generator, *, blur: float, noise: float, quality: int) -> Image.Image:
    """A camera's JPEG of the scene: out of focus by `blur` pixels, with noise of `noise` gray levels."""
    picture = Image.fromarray(np.clip(scene, 0, 255).astype(np.uint8)).filter(ImageFilter.GaussianBlur(blur))
    values = np.asarray(picture, np.float64) + rng.normal(0, noise, (*scene.shape[:2], 1))
    values += rng.normal(0, noise / 2, scene.shape)
    buffer = io.BytesIO()
    Image.fromarray(np.clip(np.rint(values), 0, 255).astype(np.uint8)).save(buffer, "JPEG", quality=quality)
    return Image.open(io.BytesIO(buffer.getvalue())).convert("RGB")


def usual_camera(scene: Scene, rng: np.random.Generator) -> Image.Image:
    """A camera as people hold it."""
    return camera(
        lit(scene, rng, rng.uniform(0, 0.35)), rng,
        blur=rng.uniform(0, 1.2), noise=rng.uniform(0.5, 4), quality=int(rng.integers(60, 96)),
    )  # fmt: skip


def on_table(sheet: Scene, rng: np.random.Generator, share: tuple[float, float] = (0.55, 0.85)) -> Scene:
    """The sheet on a table, rotated by up to 12 degrees and seen in perspective."""
    height, width = sheet.shape[:2]
    scale = 1 / rng.uniform(*share)
    out_height, out_width = round(height * scale), round(width * scale)
    angle = np.deg2rad(rng.uniform(-12, 12))
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    corners = np.array([[0, 0], [width, 0], [width, height], [0, height]], float) - [width / 2, height / 2]
    shrink = 0.97 if abs(angle) < 0.1 else 0.92
    placed = shrink * corners @ turn.T + [out_width / 2, out_height / 2]
    placed += rng.uniform(-0.05, 0.05, (4, 2)) * [width, height]
    placed = np.clip(placed, [2, 2], [out_width - 2, out_height - 2])
    coefficients = _perspective(placed, corners + np.array([width / 2, height / 2]))
    size = (out_width, out_height)
    picture = Image.fromarray(np.clip(sheet, 0, 255).astype(np.uint8))
    warped = picture.transform(size, Image.Transform.PERSPECTIVE, coefficients, Image.Resampling.BICUBIC)
    mask = Image.new("L", (width, height), 255).transform(
        size, Image.Transform.PERSPECTIVE, coefficients, Image.Resampling.BICUBIC
    )
    cover = np.asarray(mask, np.float64)[..., None] / 255
    shade = np.asarray(mask.filter(ImageFilter.GaussianBlur(rng.uniform(3, 12))), np.float64)[..., None] / 255
    ground = table(out_height, out_width, rng) * (1 - rng.uniform(0, 0.5) * np.roll(shade, (4, 4), (0, 1)))
    return ground * (1 - cover) + np.asarray(warped, np.float64) * cover


def _perspective(source: np.ndarray, target: np.ndarray) -> list[float]:
    """Pillow's eight coefficients, which map four points of the result to four of the original."""
    rows, values = [], []
    for (x, y), (u, v) in zip(source, target, strict=True):
        rows += [[x, y, 1, 0, 0, 0, -u * x, -u * y], [0, 0, 0, x, y, 1, -v * x, -v * y]]
        values += [u, v]
    return [float(value) for value in np.linalg.solve(np.array(rows), np.array(values))]
