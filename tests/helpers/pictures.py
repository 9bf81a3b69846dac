"""Drawings of handwritten digits."""

from PIL import Image, ImageDraw

# The strokes of a two, in the unit square.
TWO = [(0.25, 0.3), (0.35, 0.18), (0.55, 0.15), (0.7, 0.28), (0.65, 0.45), (0.25, 0.82), (0.75, 0.82)]


def drawing(
    size: int = 400, paper: int = 255, ink: int = 0, strokes: list[tuple[float, float]] = TWO
) -> Image.Image:
    """A drawing with anti-aliased edges: drawn at four times the size and scaled down."""
    big = Image.new("L", (4 * size, 4 * size), paper)
    points = [(4 * size * x, 4 * size * y) for x, y in strokes]
    ImageDraw.Draw(big).line(points, fill=ink, width=size // 3, joint="curve")
    return big.resize((size, size), Image.Resampling.BOX)
