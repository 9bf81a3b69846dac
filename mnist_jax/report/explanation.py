"""Shows how pictures were prepared: a page with each step, and a picture with boxes and answers."""

import base64
import io
from collections.abc import Iterable, Mapping

import numpy as np
from PIL import Image, ImageDraw, ImageFont

Box = tuple[float, float, float, float]  # left, top, right, bottom, as shares of width and height
RED = (200, 30, 40)


def explanation(pictures: Iterable[tuple[str, str, Mapping[str, np.ndarray]]]) -> str:
    """An HTML page that shows pictures after each step of their preparation.

    Args:
        pictures: of each its name, the answer or what is in doubt, and its steps, each uint8 `[h, w]` or
            `[h, w, 3]`.
    """
    from jinja2 import Environment, PackageLoader

    environment = Environment(loader=PackageLoader("mnist_jax.report"), autoescape=True, trim_blocks=True)
    rows = [
        (name, text, [(step, _data_url(image)) for step, image in steps.items()])
        for name, text, steps in pictures
    ]
    return environment.get_template("explanation.html").render(rows=rows)


def png(image: np.ndarray) -> bytes:
    """The PNG file of a picture, uint8 `[h, w]` or `[h, w, 3]`."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG")
    return buffer.getvalue()


def _data_url(image: np.ndarray) -> str:
    return f"data:image/png;base64,{base64.b64encode(png(image)).decode()}"


def annotated(picture: np.ndarray, answers: Iterable[tuple[Box, str]]) -> np.ndarray:
    """A copy of a picture, uint8 `[h, w, 3]`, with a box around each digit, and its answer above.

    Args:
        picture: uint8 `[h, w, 3]`.
        answers: of each digit its box and its answer.
    """
    result = Image.fromarray(picture)
    pen, (width, height) = ImageDraw.Draw(result), result.size
    thickness = max(1, max(width, height) // 400)
    for (left, top, right, bottom), text in answers:
        box = (left * width - 2 * thickness, top * height - 2 * thickness,
               right * width + 2 * thickness, bottom * height + 2 * thickness)  # fmt: skip
        pen.rectangle(box, outline=RED, width=thickness)
        font = ImageFont.load_default(max(12, round(0.4 * (bottom - top) * height)))
        pen.text((box[0], box[1]), text, fill=RED, font=font, anchor="lb")
    return np.asarray(result)
