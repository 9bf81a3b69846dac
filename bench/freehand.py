"""`bench freehand`: accuracy on freehand drawings, which are independent of MNIST."""

from collections import Counter
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from bench import options, output
from bench.drawings import drawings, ink
from mnist_jax.data import preprocess
from mnist_jax.runs import directory

CLOCK = "Predictions on drawings that were frozen before any network was evaluated on them."
COLUMNS = (
    ("run", lambda row: row["run"]),
    ("MNIST's test set", lambda row: row["test_accuracy"]),
    ("drawings", lambda row: f"{row['right']} of {row['drawings']}"),
    ("share", lambda row: f"{100 * row['right'] / row['drawings']:.1f} %"),
    ("most often mistaken", lambda row: ", ".join(row["mistaken"])),
)


def freehand(
    run_dirs: Annotated[list[Path], typer.Argument(metavar="RUN_DIR...", help="Run directories.")],
    out: options.Out = None,
) -> None:
    """Accuracy of each run's network on 215 freehand drawings, by which no network was ever selected."""
    from mnist_onnx import Classifier

    digits = drawings()
    images = np.stack([preprocess.frame(ink(drawing)) for drawing in digits])
    labels = np.array([drawing.label for drawing in digits])
    result = output.new("freehand", CLOCK)
    for folder in run_dirs:
        classifier = Classifier(folder / directory.MODEL)
        predicted = classifier.predict(images).argmax(axis=-1)
        wrong = Counter(f"{a} as {b}" for a, b in zip(labels, predicted, strict=True) if a != b)
        result["rows"].append(
            {
                "run": classifier.metadata.get("preset", folder.name),
                "test_accuracy": f"{100 * float(classifier.metadata.get('test_accuracy', 'nan')):.2f} %",
                "drawings": len(labels),
                "right": int((predicted == labels).sum()),
                "mistaken": [f"{name} ({count})" for name, count in wrong.most_common(4)],
            }
        )
    output.finish(result, COLUMNS, lambda axes, rows: _plot(axes, images), out)


def _plot(axes: Any, images: np.ndarray) -> None:
    """Shows all drawings as inputs of the network."""
    rows = -(-len(images) // 20)
    sheet = np.zeros((rows * 20, 28, 28), np.uint8)
    sheet[: len(images)] = images
    grid = sheet.reshape(rows, 20, 28, 28).transpose(0, 2, 1, 3).reshape(rows * 28, 20 * 28)
    axes.imshow(grid, cmap="gray")
    axes.set_axis_off()
