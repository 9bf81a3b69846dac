"""The drawing page in a real browser: its preprocessing and predictions equal those of Python."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnxruntime import InferenceSession
from PIL import Image

from mnist_jax.data.preprocess import frame
from mnist_jax.runs import directory
from mnist_onnx import Classifier

EMPTY = "\u2013"
THREE = [[60, 90], [120, 60], [190, 80], [150, 130], [190, 190], [130, 225], [70, 200]]
SEVEN = [[80, 70], [200, 70], [190, 95], [130, 220]]


@pytest.fixture
def page(browser: Any, address: str, request: pytest.FixtureRequest) -> Iterator[Any]:
    """The page, loaded; console messages, errors and third-party requests fail the test."""
    context = browser.new_context(**getattr(request, "param", {}))
    opened, problems = context.new_page(), []
    opened.on("console", lambda message: problems.append(message.text) if message.type != "log" else None)
    opened.on("pageerror", lambda error: problems.append(str(error)))
    opened.on("request", lambda r: None if r.url.startswith(f"http://{address}/") else problems.append(r.url))
    opened.goto(f"http://{address}/")
    opened.wait_for_selector("body[data-ready=yes]")
    yield opened
    context.close()
    assert problems == []


def draw(page: Any, points: list[list[float]]) -> None:
    """Draws one stroke with the mouse, in drawing units."""
    box = page.locator("#paper").bounding_box()
    points = [(box["x"] + x * box["width"] / 280, box["y"] + y * box["width"] / 280) for x, y in points]
    page.mouse.move(*points[0])
    page.mouse.down()
    for point in points[1:]:
        page.mouse.move(*point, steps=5)
    page.mouse.up()
    settled(page)


def settled(page: Any) -> None:
    """Waits until no further prediction arrives."""
    page.wait_for_function(
        """() => new Promise((done) => {
          const before = document.body.dataset.answered;
          setTimeout(() => done(before === document.body.dataset.answered), 150);
        })"""
    )


def seen(page: Any) -> np.ndarray:
    """The 28x28 input of the network."""
    return np.array(page.evaluate("Array.from(seen.pixels)"), np.uint8).reshape(28, 28)


def shown(page: Any) -> np.ndarray:
    """The ten probabilities that the bars show."""
    bars = page.locator("#bars [role=meter]")
    return np.array([float(bar.get_attribute("aria-valuenow")) / 100 for bar in bars.all()])


def test_a_drawing_gets_the_answer_that_python_gives(page: Any, run_dir: Path) -> None:
    classifier = Classifier(run_dir / directory.MODEL)
    for points in (THREE, SEVEN):
        page.keyboard.press("c")
        draw(page, points)
        (expected,) = classifier.predict(seen(page)[None])
        np.testing.assert_allclose(shown(page), expected, atol=6e-4)  # shown to a tenth of a percent
        assert page.inner_text("#label") == classifier.labels[expected.argmax()]
        assert re.fullmatch(r"[\d.]+ ms in this browser", page.inner_text("#time"))
        message = f"Predicted {classifier.labels[expected.argmax()]}, "
        page.wait_for_function(
            "(message) => document.getElementById('announcement').textContent.startsWith(message)",
            arg=message,
        )


@pytest.mark.slow
def test_the_page_prepares_drawings_as_python_does(page: Any, digits: Any) -> None:
    """On the same ink: random strokes, and scans."""
    rng = np.random.default_rng(0)
    inks = []
    for _ in range(15):
        center, reach = rng.uniform(60, 220, 2), rng.uniform(2, 120)
        strokes = [
            (center + rng.uniform(-reach, reach, (rng.integers(1, 8), 2))).tolist()
            for _ in range(rng.integers(1, 4))
        ]
        ink = page.evaluate("async (strokes) => Array.from((await import('/pen.js')).ink(strokes))", strokes)
        inks.append(np.array(ink).reshape(280, 280))
    inks += [image.astype(float) for image in digits.test.images[:20]]
    for height, width in (
        (80, 10),
        (160, 20),
        (240, 30),
        (30, 240),
        (200, 35),
    ):  # rounds halves when scaled to 20
        inks.append(np.pad(np.full((height, width), 255.0), 20))
    inks += [rng.random((height, width)) for height, width in ((1, 1), (1, 300), (300, 1), (20, 20), (7, 5))]
    for ink in inks:
        height, width = ink.shape
        pixels = page.evaluate(
            """async ([ink, height, width]) =>
              Array.from((await import('/prepare.js')).frame(ink, height, width) ?? [])""",
            [ink.reshape(-1).tolist(), height, width],
        )
        if not ink.any():  # the strokes lie outside the canvas
            assert pixels == []
            continue
        difference = np.array(pixels).reshape(28, 28) - frame(ink).astype(int)
        assert np.abs(difference).max() <= 2


def test_undo_clear_and_a_test_digit(page: Any, digits: Any) -> None:
    assert page.inner_text("#confidence") == "Waiting for a drawing"
    page.click("#undo")
    page.click("#clear")  # an empty drawing is no error
    draw(page, SEVEN)
    one = seen(page)
    draw(page, [[120, 150], [190, 150]])
    assert not np.array_equal(seen(page), one)
    page.keyboard.press("z")
    settled(page)
    np.testing.assert_array_equal(seen(page), one)
    page.click("#undo")
    settled(page)
    assert page.inner_text("#label") == EMPTY
    assert not shown(page).any()
    page.click("#sample")
    settled(page)
    index, label = map(int, re.findall(r"test digit (\d+), label (\d)", page.inner_text("#time"))[0])
    np.testing.assert_array_equal(seen(page), digits.test.images[index])
    assert label == digits.test.labels[index]
    page.click("#clear")
    settled(page)
    assert page.evaluate("seen.pixels") is None


def test_a_stroke_that_is_undone_while_drawn_stays_undone(page: Any) -> None:
    box = page.locator("#paper").bounding_box()
    draw(page, SEVEN)
    page.mouse.move(box["x"] + 50, box["y"] + 50)
    page.mouse.down()
    page.mouse.move(box["x"] + 90, box["y"] + 90)
    page.keyboard.press("z")  # undoes the stroke being drawn
    page.mouse.move(box["x"] + 200, box["y"] + 90)
    settled(page)
    before = seen(page)
    page.mouse.up()
    page.keyboard.press("c")
    settled(page)
    draw(page, SEVEN)
    np.testing.assert_array_equal(seen(page), before)


def test_a_missing_file_is_reported(browser: Any, address: str) -> None:
    opened = browser.new_page()
    opened.route("**/samples.json", lambda route: route.fulfill(status=404, body=""))
    opened.goto(f"http://{address}/")
    opened.wait_for_function(
        "() => document.getElementById('confidence').textContent.includes('samples.json')"
    )
    assert opened.inner_text("#confidence") == "The network failed to load: samples.json returned status 404"
    opened.close()


def test_a_description_of_another_network_is_reported(
    browser: Any, address: str, page_files: dict[str, bytes]
) -> None:
    card = json.loads(page_files["model.json"]) | {"sha256": "0" * 64}
    opened = browser.new_page()
    opened.route("**/model.json", lambda route: route.fulfill(body=json.dumps(card)))
    opened.goto(f"http://{address}/")
    opened.wait_for_function("() => document.getElementById('confidence').textContent.includes('model.json')")
    assert "model.json does not match model.onnx" in opened.inner_text("#confidence")
    opened.close()


def test_one_pointer_draws_at_a_time(page: Any) -> None:
    draw(page, SEVEN)
    alone = seen(page)
    page.keyboard.press("c")
    page.evaluate(
        """([points]) => {
          const { left, top, width } = paper.getBoundingClientRect();
          const event = (type, [x, y], pointerId) => paper.dispatchEvent(new PointerEvent(type, {
            pointerId, isPrimary: true, button: 0,
            clientX: left + x * width / 280, clientY: top + y * width / 280,
          }));
          paper.setPointerCapture = () => {};
          event("pointerdown", points[0], 1);
          event("pointerdown", [250, 250], 2);
          for (const point of points.slice(1)) {
            event("pointermove", point, 1);
            event("pointermove", [250, 260], 2);
          }
          event("lostpointercapture", points.at(-1), 1);
          event("pointermove", [250, 20], 1);
        }""",
        [SEVEN],
    )
    settled(page)
    assert np.abs(seen(page).astype(int) - alone).max() <= 40  # equal up to rounded positions


def test_drawing_by_keyboard_only(page: Any) -> None:
    page.focus("#paper")
    page.keyboard.press("Space")
    for _ in range(8):
        page.keyboard.press("ArrowDown")
    page.keyboard.press("Space")
    page.keyboard.press("ArrowRight")
    settled(page)
    rows, columns = np.nonzero(seen(page))
    assert np.ptp(rows) > 3 * np.ptp(columns)  # a vertical line
    page.keyboard.press("c")
    settled(page)
    assert page.inner_text("#label") == EMPTY
    page.keyboard.press("r")
    settled(page)
    assert "test digit" in page.inner_text("#time")


def test_hidden_layers_are_shown(page: Any, run_dir: Path, page_files: dict[str, bytes]) -> None:
    draw(page, THREE)
    assert page.locator("#layers canvas").count() == 0
    page.click("#inside summary")
    settled(page)
    session = InferenceSession(page_files["model.onnx"])
    names = [output.name for output in session.get_outputs()]
    layers = page.locator("#layers canvas").all()
    assert [layer.get_attribute("data-layer") for layer in layers] == names[1:]
    answers, *_ = session.run(None, {"images": seen(page)[None, None]})
    np.testing.assert_allclose(
        answers, Classifier(run_dir / directory.MODEL).predict(seen(page)[None]), atol=1e-6
    )
    assert any(page.evaluate("Array.from(document.querySelector('#layers canvas').getContext('2d')"
                             ".getImageData(0, 0, 8, 4).data).filter((_, i) => i % 4 === 0)"))  # fmt: skip


@pytest.mark.parametrize(
    "page",
    [
        {"viewport": {"width": width, "height": 800}, "color_scheme": scheme, "has_touch": width < 500}
        for width in (360, 1100)
        for scheme in ("light", "dark")
    ],
    indirect=True,
)
def test_it_fits_all_screens_in_light_and_dark(page: Any, tmp_path: Path) -> None:
    draw(page, SEVEN)
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert page.evaluate("Array.from(document.querySelectorAll('button'), (b) => b.offsetHeight)") == [44] * 3
    page.screenshot(path=tmp_path / "page.png")
    ground = np.asarray(Image.open(tmp_path / "page.png").convert("L"))[2, 2]
    dark = page.evaluate("matchMedia('(prefers-color-scheme: dark)').matches")
    assert (ground < 60) == dark
    # WCAG 2.2 asks for a contrast of text and background of at least 4.5.
    for selector in ("#about", "#confidence", ".quiet", "#bars span", "button"):
        assert contrast(page, selector) >= 4.5, selector


def contrast(page: Any, selector: str) -> float:
    colors = page.evaluate(
        """(selector) => {
          let element = document.querySelector(selector);
          const text = getComputedStyle(element).color;
          const clear = "rgba(0, 0, 0, 0)";
          while (getComputedStyle(element).backgroundColor === clear) element = element.parentElement;
          return [text, getComputedStyle(element).backgroundColor];
        }""",
        selector,
    )
    channels = np.array([re.findall(r"[\d.]+", color)[:3] for color in colors], float) / 255
    linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
    low, high = sorted(linear @ [0.2126, 0.7152, 0.0722])
    return float((high + 0.05) / (low + 0.05))
