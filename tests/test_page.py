"""The page to draw on, in a real browser: what it sees and says is what Python sees and says."""

import http.client
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnxruntime import InferenceSession
from PIL import Image

from mnist_jax import runs
from mnist_jax.cli import main
from mnist_jax.cli.serve import HEADERS, handler
from mnist_jax.cli.web import page as page_files
from mnist_jax.errors import RuntimeUnavailableError
from mnist_jax.prepare import frame
from mnist_onnx import Classifier, site

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
KEPT = Path(tempfile.gettempdir()) / "mnist-jax-tests"  # what npm brings outlives a run of the tests
EMPTY = "\u2013"
THREE = [[60, 90], [120, 60], [190, 80], [150, 130], [190, 190], [130, 225], [70, 200]]
SEVEN = [[80, 70], [200, 70], [190, 95], [130, 220]]


@pytest.fixture(scope="session")
def files(run_dir: Path) -> dict[str, bytes]:
    """The page's files; skips where npm can't bring its runtime, and fails in CI, where it must."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(site, "cache_folder", lambda: KEPT)
        try:
            return page_files(run_dir, None)
        except RuntimeUnavailableError as error:
            if os.environ.get("CI") == "true":
                raise
            pytest.skip(str(error))


@pytest.fixture(scope="session")
def address(files: dict[str, bytes]) -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler(files))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    if CHROMIUM is None:
        assert os.environ.get("CI") != "true", "CI needs Chromium"
        pytest.skip("Chromium: install it (Debian's package chromium)")
    from playwright.sync_api import sync_playwright

    flags = ["--no-sandbox", "--disable-background-networking", "--disable-component-update"]
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=CHROMIUM, args=flags)
        yield started
        started.close()


@pytest.fixture
def page(browser: Any, address: str, request: pytest.FixtureRequest) -> Iterator[Any]:
    """The page, ready; whatever it complains of, or asks of others, fails the test."""
    context = browser.new_context(**getattr(request, "param", {}))
    opened, wrong = context.new_page(), []
    opened.on("console", lambda message: wrong.append(message.text) if message.type != "log" else None)
    opened.on("pageerror", lambda error: wrong.append(str(error)))
    opened.on("request", lambda r: None if r.url.startswith(f"http://{address}/") else wrong.append(r.url))
    opened.goto(f"http://{address}/")
    opened.wait_for_selector("body[data-ready=yes]")
    yield opened
    context.close()
    assert wrong == []


def draw(page: Any, points: list[list[float]]) -> None:
    """One stroke by the mouse, in the drawing's own units."""
    box = page.locator("#paper").bounding_box()
    places = [(box["x"] + x * box["width"] / 280, box["y"] + y * box["width"] / 280) for x, y in points]
    page.mouse.move(*places[0])
    page.mouse.down()
    for place in places[1:]:
        page.mouse.move(*place, steps=5)
    page.mouse.up()
    settled(page)


def settled(page: Any) -> None:
    """Until no further answer comes."""
    page.wait_for_function(
        """() => new Promise((done) => {
          const before = document.body.dataset.answered;
          setTimeout(() => done(before === document.body.dataset.answered), 150);
        })"""
    )


def seen(page: Any) -> np.ndarray:
    """The 28x28 that the network was given."""
    return np.array(page.evaluate("Array.from(seen.pixels)"), np.uint8).reshape(28, 28)


def shown(page: Any) -> np.ndarray:
    """The ten probabilities as the bars have them."""
    bars = page.locator("#bars [role=meter]")
    return np.array([float(bar.get_attribute("aria-valuenow")) / 100 for bar in bars.all()])


def test_a_drawing_gets_the_answer_that_python_gives(page: Any, run_dir: Path) -> None:
    classifier = Classifier(run_dir / runs.MODEL)
    for points in (THREE, SEVEN):
        page.keyboard.press("c")
        draw(page, points)
        (expected,) = classifier.predict(seen(page)[None])
        np.testing.assert_allclose(shown(page), expected, atol=6e-4)  # they are shown to a tenth of a percent
        assert page.inner_text("#label") == classifier.labels[expected.argmax()]
        assert re.fullmatch(r"[\d.]+ ms in this browser", page.inner_text("#time"))
        said = f"Looks like {classifier.labels[expected.argmax()]}, "
        page.wait_for_function(
            "(said) => document.getElementById('said').textContent.startsWith(said)", arg=said
        )


def test_the_page_prepares_drawings_as_python_does(page: Any, digits: Any) -> None:
    """The same ink in both: strokes of all kinds, and scans."""
    rng = np.random.default_rng(0)
    inks = []
    for _ in range(40):
        centre, reach = rng.uniform(60, 220, 2), rng.uniform(2, 120)
        strokes = [
            (centre + rng.uniform(-reach, reach, (rng.integers(1, 8), 2))).tolist()
            for _ in range(rng.integers(1, 4))
        ]
        found = page.evaluate(
            "async (strokes) => Array.from((await import('/pen.js')).ink(strokes))", strokes
        )
        inks.append(np.array(found).reshape(280, 280))
    inks += [image.astype(float) for image in digits.test.images[:40]]
    inks += [rng.random((height, width)) for height, width in ((1, 1), (1, 300), (300, 1), (20, 20), (7, 5))]
    for ink in inks:
        height, width = ink.shape
        found = page.evaluate(
            """async ([ink, height, width]) =>
              Array.from((await import('/prepare.js')).frame(ink, height, width) ?? [])""",
            [ink.reshape(-1).tolist(), height, width],
        )
        if not ink.any():  # all of it outside the paper
            assert found == []
            continue
        difference = np.array(found).reshape(28, 28) - frame(ink).astype(int)
        assert np.abs(difference).max() <= 2


def test_undo_clear_and_a_test_digit(page: Any, digits: Any) -> None:
    assert page.inner_text("#sure") == "Waiting for a drawing"
    assert page.is_disabled("#undo")
    assert page.is_disabled("#clear")
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
    index, label = map(int, re.findall(r"test digit (\d+), labelled (\d)", page.inner_text("#time"))[0])
    np.testing.assert_array_equal(seen(page), digits.test.images[index])
    assert label == digits.test.labels[index]
    page.click("#clear")
    settled(page)
    assert page.evaluate("seen.pixels") is None


def test_by_keyboard_alone(page: Any) -> None:
    page.focus("#paper")
    page.keyboard.press("Space")
    for _ in range(8):
        page.keyboard.press("ArrowDown")
    page.keyboard.press("Space")
    page.keyboard.press("ArrowRight")
    settled(page)
    rows, columns = np.nonzero(seen(page))
    assert np.ptp(rows) > 3 * np.ptp(columns)  # an upright line
    page.keyboard.press("c")
    settled(page)
    assert page.inner_text("#label") == EMPTY
    page.keyboard.press("r")
    settled(page)
    assert "test digit" in page.inner_text("#time")


def test_the_network_can_be_looked_into(page: Any, run_dir: Path, files: dict[str, bytes]) -> None:
    draw(page, THREE)
    assert page.locator("#layers canvas").count() == 0
    page.click("#inside summary")
    settled(page)
    session = InferenceSession(files["model.onnx"])
    names = [output.name for output in session.get_outputs()]
    layers = page.locator("#layers canvas").all()
    assert [layer.get_attribute("data-layer") for layer in layers] == names[1:]
    answers, *_ = session.run(None, {"images": seen(page)[None, None]})
    np.testing.assert_allclose(answers, Classifier(run_dir / runs.MODEL).predict(seen(page)[None]), atol=1e-6)
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
def test_it_fits_every_screen_in_light_and_dark(page: Any, tmp_path: Path) -> None:
    draw(page, SEVEN)
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert page.evaluate("Array.from(document.querySelectorAll('button'), (b) => b.offsetHeight)") == [44] * 3
    page.screenshot(path=tmp_path / "page.png")
    ground = np.asarray(Image.open(tmp_path / "page.png").convert("L"))[2, 2]
    dark = page.evaluate("matchMedia('(prefers-color-scheme: dark)').matches")
    assert (ground < 60) == dark
    # Contrast of text to ground, as WCAG 2.2 reckons it: at least 4.5.
    for selector in ("#about", "#sure", ".quiet", "#bars span", "button"):
        assert contrast(page, selector) >= 4.5, selector


def contrast(page: Any, selector: str) -> float:
    colours = page.evaluate(
        """(selector) => {
          let element = document.querySelector(selector);
          const text = getComputedStyle(element).color;
          const clear = "rgba(0, 0, 0, 0)";
          while (getComputedStyle(element).backgroundColor === clear) element = element.parentElement;
          return [text, getComputedStyle(element).backgroundColor];
        }""",
        selector,
    )
    channels = np.array([re.findall(r"[\d.]+", colour)[:3] for colour in colours], float) / 255
    linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
    low, high = sorted(linear @ [0.2126, 0.7152, 0.0722])
    return float((high + 0.05) / (low + 0.05))


def test_what_is_served_and_what_is_not(address: str, files: dict[str, bytes]) -> None:
    def ask(path: str, method: str = "GET", **headers: str) -> tuple[http.client.HTTPResponse, bytes]:
        connection = http.client.HTTPConnection(address, timeout=10)
        connection.request(method, path, headers=headers)
        response = connection.getresponse()
        data = response.read()
        connection.close()
        return response, data

    for path in ("/", "/index.html", "/app.js?x=1", "/model.onnx", "/ort/ort-wasm-simd-threaded.wasm"):
        response, data = ask(path)
        assert response.status == 200
        assert data == files[path.partition("?")[0].removeprefix("/") or "index.html"]
        for name, value in HEADERS.items():
            assert response.headers[name] == value
    assert ask("/app.js")[0].headers["Content-Type"] == "text/javascript; charset=utf-8"
    assert ask("/ort/ort-wasm-simd-threaded.wasm")[0].headers["Content-Type"] == "application/wasm"
    response, data = ask("/model.onnx", "HEAD")
    assert (response.status, data) == (200, b"")
    for path in (
        "/ort/",
        "/ort",
        "/../pyproject.toml",
        "/ort/../../x",
        "/%2e%2e/x",
        "//etc/passwd",
        "/config.json",
    ):
        assert ask(path)[0].status == 404
    assert ask("/", Host="evil.example")[0].status == 421
    assert ask("/", "POST")[0].status == 501
    assert "unsafe-inline" not in HEADERS["Content-Security-Policy"]


def test_a_folder_for_any_host(
    run_dir: Path,
    files: dict[str, bytes],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(site, "cache_folder", lambda: KEPT)
    out = tmp_path / "site"
    for _ in range(2):
        assert main(["web", str(run_dir), "--out", str(out)]) == 0
        written = {str(path.relative_to(out)): path.read_bytes() for path in out.rglob("*") if path.is_file()}
        assert written == files
    (out / "diary.txt").write_text("mine")
    assert main(["web", str(run_dir), "--out", str(out)]) == 2
    assert "must be a new directory, or one that web wrote" in capsys.readouterr().err
    assert main(["web", str(run_dir), "--out", str(out / "diary.txt")]) == 2
    assert main(["serve", str(run_dir), "--port", "70000"]) == 2
    assert "--port must be a whole number from 0 to 65535; got 70000" in capsys.readouterr().err


def test_serve_prints_its_address_and_ends_cleanly(run_dir: Path, files: dict[str, bytes]) -> None:
    cache = KEPT.parent / "mnist-jax-tests-home"
    cache.mkdir(exist_ok=True)
    if not (cache / "mnist-jax").exists():
        (cache / "mnist-jax").symlink_to(KEPT)
    command = [sys.executable, "-m", "mnist_jax.cli", "serve", str(run_dir), "--no-browser"]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "XDG_CACHE_HOME": str(cache)},
    )  # fmt: skip
    assert process.stdout is not None
    line = process.stdout.readline()
    assert re.fullmatch(r"http://127\.0\.0\.1:\d+/\n", line)
    connection = http.client.HTTPConnection(line.removeprefix("http://").rstrip("/\n"), timeout=10)
    connection.request("GET", "/model.json")
    assert connection.getresponse().read() == files["model.json"]
    connection.close()
    busy = subprocess.run(
        [*command, "--port", line.rsplit(":")[-1].rstrip("/\n")], capture_output=True, text=True, check=False,
        env={**os.environ, "XDG_CACHE_HOME": str(cache)},
    )  # fmt: skip
    assert (busy.returncode, busy.stdout) == (2, "")
    assert re.fullmatch(
        r"mnist-jax: --port must be one that is free; \d+: Address already in use\n", busy.stderr
    )
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=20)
    assert process.returncode == 0
    assert "Traceback" not in said


def test_what_npm_brings_is_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(site, "cache_folder", lambda: tmp_path)
    monkeypatch.setattr(site, "_fetch", lambda: dict.fromkeys(site.SUMS, b"another"))
    with pytest.raises(RuntimeUnavailableError, match=r"must have sha256 219e6a1f.*; got .* from npm"):
        site.runtime()
    assert not list(tmp_path.rglob("*.mjs"))
    monkeypatch.undo()
    monkeypatch.setattr(site, "cache_folder", lambda: tmp_path)
    monkeypatch.setenv("PATH", "")
    with pytest.raises(
        RuntimeUnavailableError, match=r"needs npm once, to fetch onnxruntime-web@.*; install"
    ):
        site.runtime()


def test_a_damaged_file_in_the_cache_is_fetched_again(
    files: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(site, "cache_folder", lambda: tmp_path)
    monkeypatch.setattr(site, "_fetch", lambda: {name: files[f"ort/{name}"] for name in site.SUMS})
    expected = site.runtime()
    for path in tmp_path.rglob("*.mjs"):
        path.write_bytes(b"damaged")
    assert site.runtime() == expected
    monkeypatch.setattr(site, "_fetch", lambda: pytest.fail("fetched"))
    assert site.runtime() == expected
