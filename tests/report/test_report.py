"""The report: it shows the run's numbers, is self-contained, and renders in a browser."""

import json
import os
import re
import shlex
import shutil
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.results import results_of
from scipy.stats import binomtest

from mnist_jax import load
from mnist_jax.cli import main
from mnist_jax.cli.report import command
from mnist_jax.config.functions import Function
from mnist_jax.config.networks import MLP
from mnist_jax.config.optimizers import Schedule
from mnist_jax.report import plots
from mnist_jax.report.report import DEFORMED
from mnist_jax.runs import directory
from mnist_onnx import Classifier


class Page(HTMLParser):
    """Parses a page: texts by element id, table rows, SVG labels, external references."""

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
        result = dict(attributes)
        if tag == "table":
            self._table = result.get("id") or ""
            self.rows[self._table] = []
        elif tag == "tr":
            self.rows[self._table].append([])
        elif tag in ("td", "th"):
            self.rows[self._table][-1].append("")
            self._in_cell = True
        elif tag == "p":
            self._id = result.get("id") or ""
        elif tag == "svg":
            self.labels.append(result.get("aria-label") or "")
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
    metrics, page = json.loads((run_dir / directory.METRICS).read_text()), Page(written.read_text())
    assert page.texts["accuracy"] == f"{100 * metrics['test']['accuracy']:.2f} %"
    onnx = " ".join(page.texts["onnx"].split())
    assert f"{metrics['onnx']['disagreements']} mismatches" in onnx
    assert f"max difference {metrics['onnx']['max_abs_difference']:.1e}" in onnx
    assert f"{(run_dir / directory.MODEL).stat().st_size:,} bytes" in onnx
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
    assert sorted(drawn) == sorted(map(str, [*counts, *range(10), *range(10)]))
    html = " ".join(written.read_text().split())
    right = sum(row[label] for label, row in enumerate(confusion))
    low, high = binomtest(right, sum(map(sum, confusion))).proportion_ci(method="wilson")
    assert f"95 % confidence interval: {100 * low:.2f} % to {100 * high:.2f} %" in html
    assert f"<dt>time</dt><dd>{metrics['seconds']:.1f} s</dd>" in html
    assert f"<pre>{command(directory.read(run_dir), metrics['epochs'])}</pre>" in html
    assert "Training was stopped" not in html
    mistakes = {(t, a): n for t, row in enumerate(confusion) for a, n in enumerate(row) if t != a}
    (label, answer), count = max(mistakes.items(), key=lambda item: item[1])
    assert f"Most frequent errors: {label} classified as {answer} ({count})" in html


def test_it_has_every_figure_and_is_self_contained(written: Path) -> None:
    page = Page(written.read_text())
    assert page.fetched == []
    assert written.stat().st_size < 3e6
    assert [label.split(",")[0] for label in page.labels] == [
        "Training images with labels",
        "Share of each class in each set",
        "Loss by epoch",
        "Accuracy by epoch",
        "Confusion matrix",
        "Errors",
        "Most confident errors",
        "Least confident correct predictions",
        "Test images with predicted probabilities",
        "Weights of the first layer's units",
        "Activations of hidden layer 1",
        "Saliency",
        *(f"Accuracy by {name}" for name in ("rotation", "shift", "size", "noise", "stroke")),
        "Accuracy by predicted probability",
    ]


def captions(html: str, figure: str) -> list[str]:
    """Returns the texts of a figure."""
    svg = html.split(f'aria-label="{figure}"')[1].split("</svg>", maxsplit=1)[0]
    return re.findall(r"<text[^>]*>([^<]*)</text>", svg)


def test_its_errors_and_uncertain_predictions_are_those_of_the_onnx_file(
    run_dir: Path, written: Path
) -> None:
    html, test = written.read_text(), load("digits").test
    probabilities = Classifier(run_dir / directory.MODEL).predict(test.images)
    given, sure = probabilities.argmax(axis=1), probabilities.max(axis=1)
    labels = np.asarray(test.labels)
    wrong = sorted(np.flatnonzero(given != labels), key=lambda i: -sure[i])[:30]
    right = sorted(np.flatnonzero(given == labels), key=lambda i: sure[i])[:30]
    expected = [text for i in wrong for text in (f"{labels[i]} → {given[i]}", f"{100 * sure[i]:.1f} %")]
    assert captions(html, "Most confident errors") == expected
    expected = [text for i in right for text in (str(labels[i]), f"{100 * sure[i]:.1f} %")]
    assert captions(html, "Least confident correct predictions") == expected
    edges = np.ceil(sure * 10).astype(int)
    gaps = [
        abs(sure[edges == i].mean() - (given == labels)[edges == i].mean()) * (edges == i).sum()
        for i in set(edges)
    ]
    (error,) = [text for text in captions(html, "Accuracy by predicted probability") if "error" in text]
    assert error == f"expected calibration error {100 * sum(gaps) / len(labels):.2f} %"


@pytest.mark.slow
def test_a_run_with_deformation_shows_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn, plot = [], plots.plot_images

    def note(images: np.ndarray, *how: Any, **named: Any) -> Any:
        drawn.append(np.asarray(images))
        return plot(images, *how, **named)

    monkeypatch.setattr(plots, "plot_images", note)
    folder = tmp_path / "run"
    words = ["train", "--dataset", "digits", "--preset", "mlp-100", "--epochs", "1", "--report"]
    assert main([*words, "--deformation", "rotate=15,elastic_alpha=34", "--out", str(folder)]) == 0
    html = (folder / "report.html").read_text()
    assert 'aria-label="Training images and their deformations"' in html
    assert "deformations of it as used in training: rotate=15,elastic_alpha=34." in html
    (pictures,) = [images for images in drawn if len(images) == 10 * (1 + DEFORMED)]
    train = load("digits", validation_fraction=0.2).train
    firsts = [np.flatnonzero(train.labels == label)[0] for label in range(10)]
    np.testing.assert_allclose(pictures[:10], train.images[firsts] / 255, atol=1e-6)
    assert len(np.unique(pictures, axis=0)) == len(pictures)
    ink = pictures.reshape(-1, 10, 28 * 28).sum(axis=2)
    np.testing.assert_allclose(ink[1:], np.broadcast_to(ink[0], ink[1:].shape), rtol=0.35)


@pytest.mark.slow
def test_a_sigmoid_networks_outputs_are_divided_by_their_sum(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    words = ["train", "--dataset", "digits", "--preset", "mlp-50-50-sigmoid", "--epochs", "1", "--report"]
    assert main([*words, "--out", str(folder)]) == 0
    html = (folder / "report.html").read_text()
    assert "divided by their sum, as in the loss" in " ".join(html.split())
    outputs = Classifier(folder / directory.MODEL).predict(load("digits").test.images)
    shares = (outputs / outputs.sum(axis=1, keepdims=True)).max(axis=1)
    first = captions(html, "Most confident errors")[1]
    assert float(first.split()[0]) in [pytest.approx(round(100 * share, 1), abs=0.06) for share in shares]


def test_scores_of_another_network_are_refused(
    run_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = Path(shutil.copytree(run_dir, tmp_path / "run"))
    metrics = json.loads((folder / directory.METRICS).read_text())
    row = metrics["test"]["confusion"][0]
    row[0], row[1] = row[0] - 2, row[1] + 2
    (folder / directory.METRICS).write_text(json.dumps(metrics))
    message = r"must have the scores of the network in checkpoint\.safetensors; .* 2 with another prediction"
    for words in (["report", str(folder)], ["compare", str(folder), str(run_dir)]):
        assert main([*words, "--out", str(tmp_path / "page.html")]) == 2
        assert re.search(message, capsys.readouterr().err)
    assert not (tmp_path / "page.html").exists()


def test_a_report_that_cannot_be_written_is_refused_before_training(
    run_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = Path(shutil.copytree(run_dir, tmp_path / "run"))
    (folder / "report.html").write_text("mine")
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert main(["train", "--resume", str(folder), "--epochs", "4", "--report"]) == 2
    assert "--out must name a new file, or a page of mnist-jax" in capsys.readouterr().err
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="the system has no named pipes")
def test_a_pipe_as_output_is_refused(run_dir: Path, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.html")
    assert main(["report", str(run_dir), "--out", str(tmp_path / "pipe.html")]) == 2


def test_a_run_without_its_onnx_file_has_no_report(
    run_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = Path(shutil.copytree(run_dir, tmp_path / "run"))
    (folder / directory.MODEL).unlink()
    assert main(["report", str(folder)]) == 2
    assert "must hold the run's model.onnx; it does not exist" in capsys.readouterr().err


def test_the_report_is_deterministic(run_dir: Path, written: Path, tmp_path: Path) -> None:
    assert main(["report", str(run_dir), "--out", str(tmp_path / "again.html")]) == 0
    assert (tmp_path / "again.html").read_bytes() == written.read_bytes()


@pytest.mark.slow
def test_training_writes_a_report(tmp_path: Path) -> None:
    words = ["train", "--dataset", "digits", "--preset", "lenet-5", "--epochs", "1", "--report"]
    assert main([*words, "--out", str(tmp_path / "run")]) == 0
    page = Page((tmp_path / "run" / "report.html").read_text())
    assert sum("hidden layer" in label for label in page.labels) == 4


@pytest.mark.slow
@pytest.mark.parametrize(
    "words",
    [
        "--preset mlp-100",
        "--preset lenet-5 --epochs 1 --clip-norm 0.5 --optimizer sgd:momentum=0.123456789,nesterov=true",
        "--preset mlp-100-tuned --epochs 2 --fgsm-epsilon 0",
        "--preset mlp-100 --epochs 1 --fgsm-epsilon 0.123456789 --dropout 0.1"
        " --deformation rotate=10,elastic_alpha=30",
        "--preset mlp-100 --epochs 2 --learning-rate 0.0123456789012 --label-smoothing 0.1 --ema-decay 0.9"
        " --weight-decay 0.01"
        " --schedule warmup_cosine:warmup_fraction=0.3 --batch-size 64 --validation-fraction 0.25 --seed 7",
    ],
)
def test_its_command_repeats_the_run(words: str, tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    assert main(["train", "--dataset", "digits", *words.split(), "--out", str(first)]) == 0
    program, *again = shlex.split(command(directory.read(first), results_of(first).history[-1].epoch))
    assert program == "mnist-jax"
    assert main([*again, "--out", str(second)]) == 0
    assert (first / directory.CONFIG).read_bytes() == (second / directory.CONFIG).read_bytes()
    assert (first / directory.MODEL).read_bytes() == (second / directory.MODEL).read_bytes()


def test_a_run_that_no_command_repeats_has_none(run_dir: Path) -> None:
    run = directory.read(run_dir)
    small = replace(run, preset="gone", config=replace(run.config, model=MLP((7,), "tanh")))
    assert " --hidden 7 --activation tanh --output softmax " in command(small, 3)
    assert command(replace(run, classes=("a", "b")), 3) == ""  # arrays of a Python program
    assert command(replace(run, config=replace(run.config, optimizer=Function("adam"))), 3) == ""
    assert "--epochs 2 " in command(run, 2)  # a stopped run
    assert command(replace(run, config=replace(run.config, schedule=Schedule("cosine"))), 2) == ""


@pytest.mark.slow
def test_names_from_files_are_text_not_html(run_dir: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(run_dir, tmp_path / "run"))
    metrics = json.loads((folder / directory.METRICS).read_text()) | {"device": "<script>alert(1)</script>"}
    (folder / directory.METRICS).write_text(json.dumps(metrics))
    assert main(["report", str(folder)]) == 0
    html = (folder / "report.html").read_text()
    assert "<script" not in html
    assert "&lt;script&gt;alert(1)" in html


@pytest.mark.parametrize(
    ("out", "message"),
    [
        ("page.txt", "--out must name a .html file; got"),
        ("nowhere/page.html", "--out must name a file in a directory that exists; got"),
        ("theirs.html", "--out must name a new file, or a page of mnist-jax;"),
    ],
)
def test_foreign_files_are_not_overwritten(
    out: str, message: str, run_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "theirs.html").write_text("<html>theirs</html>")
    assert main(["report", str(run_dir), "--out", str(tmp_path / out)]) == 2
    assert message in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["theirs.html"]
    assert (tmp_path / "theirs.html").read_text() == "<html>theirs</html>"


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
