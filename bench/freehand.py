"""`bench freehand`: how many drawings that are nobody's test set a network reads."""

from collections import Counter
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from bench import report
from bench.drawings import drawings, ink
from mnist_jax import prepare, runs

COLUMNS = (
    ("run", lambda row: row["run"]),
    ("MNIST's test set", lambda row: row["test_accuracy"]),
    ("drawings", lambda row: f"{row['right']} of {row['drawings']}"),
    ("share", lambda row: f"{100 * row['right'] / row['drawings']:.1f} %"),
    ("most often mistaken", lambda row: ", ".join(row["mistaken"])),
)


def freehand(
    run_dirs: Annotated[list[Path], typer.Argument(metavar="RUN_DIR...", help="Runs that `train` wrote.")],
    out: Annotated[Path | None, typer.Option(metavar="DIR", help="Write freehand.json, .md, .png.")] = None,
) -> None:
    """How many of 215 freehand drawings each run's network reads; no network was ever chosen by them."""
    from mnist_onnx import Classifier

    found = drawings()
    pictures = np.stack([prepare.frame(ink(drawing)) for drawing in found])
    labels = np.array([drawing.label for drawing in found])
    result = report.new("freehand", "Answers to drawings that were frozen before any network was asked.")
    for folder in run_dirs:
        classifier = Classifier(folder / runs.MODEL)
        answers = classifier.predict(pictures).argmax(axis=-1)
        wrong = Counter(f"{a} as {b}" for a, b in zip(labels, answers, strict=True) if a != b)
        result["rows"].append(
            {
                "run": classifier.metadata.get("preset", folder.name),
                "test_accuracy": f"{100 * float(classifier.metadata.get('test_accuracy', 'nan')):.2f} %",
                "drawings": len(labels),
                "right": int((answers == labels).sum()),
                "mistaken": [f"{name} ({count})" for name, count in wrong.most_common(4)],
            }
        )
    report.finish(result, COLUMNS, lambda axes, rows: _plot(axes, pictures), out)


def _plot(axes: Any, pictures: np.ndarray) -> None:
    """All drawings, as the networks see them."""
    rows = -(-len(pictures) // 20)
    sheet = np.zeros((rows * 20, 28, 28), np.uint8)
    sheet[: len(pictures)] = pictures
    mosaic = sheet.reshape(rows, 20, 28, 28).transpose(0, 2, 1, 3).reshape(rows * 28, 20 * 28)
    axes.imshow(mosaic, cmap="gray")
    axes.set_axis_off()
