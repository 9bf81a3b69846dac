"""The report: its numbers are the run's, it needs nothing else, and it is whole in a browser."""

import json
import re
import shlex
import shutil
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from mnist_jax import runs
from mnist_jax.cli import main
from mnist_jax.cli.report import command


class Page(HTMLParser):
    """A page's texts by the id of their element, its tables' rows, and whatever it would fetch."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.texts: dict[str, str] = {}
        self.rows: dict[str, list[list[str]]] = {}
        self.fetched: list[str] = []
        self.labels: list[str] = []
        self._id = self._table = ""
        self._in_cell = False
        self.feed(html)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        found = dict(attributes)
        if tag == "table":
            self._table = found.get("id") or ""
            self.rows[self._table] = []
        elif tag == "tr":
            self.rows[self._table].append([])
        elif tag in ("td", "th"):
            self.rows[self._table][-1].append("")
            self._in_cell = True
        elif tag == "p":
            self._id = found.get("id") or ""
        elif tag == "svg":
            self.labels.append(found.get("aria-label") or "")
        assert tag not in ("script", "iframe", "object", "embed")
        for name, value in attributes:
            if name in ("src", "href", "xlink:href") and not (value or "").startswith(("data:", "#")):
                self.fetched.append(value or "")

    def handle_endtag(self, tag: str) -> None:
        if tag in ("td", "th"):
            self._in_cell = False
        elif tag == "p":
            self._id = ""

    def handle_data(self, data: str) -> None:
        if self._in_cell:
            self.rows[self._table][-1][-1] += data
        elif self._id:
            self.texts[self._id] = self.texts.get(self._id, "") + data


@pytest.fixture(scope="session")
def written(run_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("report") / "report.html"
    assert main(["report", str(run_dir), "--out", str(out)]) == 0
    return out


def test_its_numbers_are_those_of_the_run(run_dir: Path, written: Path) -> None:
    metrics, page = json.loads((run_dir / runs.METRICS).read_text()), Page(written.read_text())
    assert page.texts["accuracy"] == f"{100 * metrics['test']['accuracy']:.2f} %"
    onnx = " ".join(page.texts["onnx"].split())
    assert f"{metrics['onnx']['disagreements']} other answers" in onnx
    assert f"largest difference {metrics['onnx']['max_abs_difference']:.1e}" in onnx
    assert f"{(run_dir / runs.MODEL).stat().st_size:,} bytes" in onnx
    heading, *rows = page.rows["classes"]
    assert heading == ["class", "precision", "recall", "F1", "images"]
    confusion = metrics["test"]["confusion"]
    for label, row in enumerate(rows):
        assert row[0] == str(label)
        assert float(row[2]) == pytest.approx(confusion[label][label] / sum(confusion[label]), abs=6e-5)
        assert int(row[4]) == sum(confusion[label])
    counts = [n for row in confusion for n in row if n]
    svg = written.read_text().split('aria-label="Confusion matrix, counts"')[1].split("</svg>")[0]
    drawn = re.findall(r"<text[^>]*>(\d+)</text>", svg)
    assert sorted(drawn[: len(drawn)]) == sorted(
        [*map(str, counts), *map(str, range(10)), *map(str, range(10))]
    )


def test_it_has_everything_and_needs_nothing_else(written: Path) -> None:
    page = Page(written.read_text())
    assert page.fetched == []
    assert written.stat().st_size < 3e6
    assert [label.split(",")[0] for label in page.labels] == [
        "Training images with labels",
        "Share of each class in each set",
        "Loss by epoch",
        "Accuracy by epoch",
        "Confusion matrix",
        "Mistakes",
        "The most confident mistakes",
        "The least certain right answers",
        "Test images with their ten probabilities",
        "Weights of the first layer's units",
        "What hidden layer 1 makes of a digit of each class",
        "A picture of each class",
        "Share of right answers by the probability of the answer",
    ]
    ids = re.findall(r' id="([^"]+)"', written.read_text())
    assert len(set(ids)) >= len(ids) - sum(ids.count(i) - 1 for i in set(ids) if i[0] in "mp")
    assert "url(#" not in re.sub(r"url\(#(" + "|".join(set(ids)) + r")\)", "", written.read_text())


def test_writing_it_again_gives_the_same_bytes(run_dir: Path, written: Path, tmp_path: Path) -> None:
    assert main(["report", str(run_dir), "--out", str(tmp_path / "again.html")]) == 0
    assert (tmp_path / "again.html").read_bytes() == written.read_bytes()


def test_training_writes_it(tmp_path: Path) -> None:
    words = ["train", "--dataset", "digits", "--preset", "lenet-5", "--epochs", "1", "--report"]
    assert main([*words, "--out", str(tmp_path / "run")]) == 0
    page = Page((tmp_path / "run" / "report.html").read_text())
    assert sum("hidden layer" in label for label in page.labels) == 4


@pytest.mark.parametrize(
    "words",
    [
        "--preset mlp-100",
        "--preset lenet-5 --epochs 1 --optimizer sgd:momentum=0.123456789,nesterov=true --clip-norm 0.5",
        "--preset mlp-100 --epochs 2 --learning-rate 0.0123456789012 --label-smoothing 0.1 --ema-decay 0.9"
        " --schedule warmup_cosine:warmup=0.3 --batch-size 64 --validation-fraction 0.25 --seed 7",
    ],
)
def test_its_command_repeats_the_run(words: str, tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    assert main(["train", "--dataset", "digits", *words.split(), "--out", str(first)]) == 0
    program, *again = shlex.split(command(runs.read(first)))
    assert program == "mnist-jax"
    assert main([*again, "--out", str(second)]) == 0
    assert (first / runs.CONFIG).read_bytes() == (second / runs.CONFIG).read_bytes()
    assert (first / runs.MODEL).read_bytes() == (second / runs.MODEL).read_bytes()


def test_a_run_that_no_command_repeats_has_none(run_dir: Path) -> None:
    run = runs.read(run_dir)
    assert (
        command(run._replace(preset="gone") if hasattr(run, "_replace") else _with(run, preset="gone")) == ""
    )


def _with(run: runs.Run, **changes: Any) -> runs.Run:

    return replace(run, **changes)


def test_names_from_files_are_text_not_html(run_dir: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(run_dir, tmp_path / "run"))
    metrics = json.loads((folder / runs.METRICS).read_text()) | {"device": "<script>alert(1)</script>"}
    (folder / runs.METRICS).write_text(json.dumps(metrics))
    assert main(["report", str(folder)]) == 0
    html = (folder / "report.html").read_text()
    assert "<script" not in html
    assert "&lt;script&gt;alert(1)" in html


@pytest.mark.parametrize(
    ("out", "said"),
    [
        ("page.txt", "--out must name a .html file; got"),
        ("nowhere/page.html", "--out must name a file in a directory that exists; got"),
        ("theirs.html", "--out must name a new file, or a page of mnist-jax;"),
    ],
)
def test_somebody_elses_file_is_left_alone(
    out: str, said: str, run_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "theirs.html").write_text("<html>theirs</html>")
    assert main(["report", str(run_dir), "--out", str(tmp_path / out)]) == 2
    assert said in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["theirs.html"]
    assert (tmp_path / "theirs.html").read_text() == "<html>theirs</html>"


def test_metrics_of_other_data_are_refused(
    run_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = Path(shutil.copytree(run_dir, tmp_path / "run"))
    metrics = json.loads((folder / runs.METRICS).read_text())
    metrics["test"]["confusion"][0][0] += 1
    metrics["test"]["n"] += 1
    (folder / runs.METRICS).write_text(json.dumps(metrics))
    assert main(["report", str(folder)]) == 2
    assert re.search(r"must count \d+ test images; got \d+", capsys.readouterr().err)
    (folder / runs.MODEL).unlink()
    assert not (folder / "report.html").exists()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 1280])
def test_it_is_whole_in_a_browser(browser: Any, written: Path, scheme: str, width: int) -> None:
    context = browser.new_context(viewport={"width": width, "height": 800}, color_scheme=scheme)
    page, wrong = context.new_page(), []
    page.on("console", lambda message: wrong.append(message.text))
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("request", lambda r: None if r.url.startswith(("data:", "file:///")) else wrong.append(r.url))
    page.goto(written.as_uri())
    assert page.evaluate("() => document.documentElement.scrollWidth") == width
    ink, ground = page.evaluate(
        """() => {
          const text = document.querySelector("svg text");
          return [getComputedStyle(text).fill, getComputedStyle(document.body).backgroundColor];
        }"""
    )
    brightness = [sum(map(int, re.findall(r"\d+", color)[:3])) for color in (ink, ground)]
    assert (brightness[0] > brightness[1]) == (scheme == "dark")
    assert abs(brightness[0] - brightness[1]) > 400
    context.close()
    assert wrong == []
