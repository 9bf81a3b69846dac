"""What people look at: `plot_...(data, *, ax=None) -> Axes`, for notebooks and for the report.

Without `ax` each makes a figure of its own with pyplot, of a size that suits it. What is empty is
transparent, so that figures suit a light background and a dark one.
"""

from collections.abc import Mapping, Sequence
from itertools import cycle
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from mnist_jax.canvas import BLUE, COLORS, ORANGE, WIDTH, axes, fade, plain
from mnist_jax.checks import as_labels, real_numbers
from mnist_jax.errors import InputError
from mnist_jax.mosaics import plot_activations, plot_images, plot_predictions, plot_saliency, plot_weights
from mnist_jax.networks import CLASSES
from mnist_jax.sources import DIGITS

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from mnist_jax.loop import EpochRecord
    from mnist_jax.metrics import Calibration
    from mnist_jax.robustness import Curve
    from mnist_jax.swept import SweptRow

__all__ = (
    "plot_activations",
    "plot_calibration",
    "plot_class_balance",
    "plot_confusion",
    "plot_histories",
    "plot_history",
    "plot_images",
    "plot_predictions",
    "plot_robustness",
    "plot_saliency",
    "plot_sweep",
    "plot_weights",
)


def plot_class_balance(
    labels: Mapping[str, Any], *, classes: Sequence[str] = DIGITS, ax: "Axes | None" = None
) -> "Axes":
    """The share of each class in each set, from its labels, whole numbers `[n]`, by its name.

    Raises:
        InputError: there is no set, one is empty, or its labels are not classes.
    """
    found_in = {name: real_numbers("labels", found) for name, found in labels.items()}
    if not found_in or not all(found.size for found in found_in.values()):
        raise InputError("class balance needs sets with labels in them; got " + (", ".join(labels) or "none"))
    sets = {name: as_labels(found) for name, found in found_in.items()}
    ax = ax or axes(WIDTH, 2.8)
    width = 0.8 / len(sets)
    for index, ((name, found), color) in enumerate(zip(sets.items(), cycle(COLORS), strict=False)):
        shares = np.bincount(found, minlength=CLASSES) / len(found)
        places = np.arange(CLASSES) + (index - (len(labels) - 1) / 2) * width
        ax.bar(places, 100 * shares, width, color=color, label=f"{name} ({len(found):,})")
    _name_classes(ax, classes, "x")
    ax.set_ylabel("share of the set, %")
    ax.margins(y=0.3)  # for the legend
    ax.legend(ncols=len(labels), loc="upper center", fontsize=8)
    return ax


def plot_history(
    history: "Sequence[EpochRecord]", score: Literal["loss", "accuracy"] = "loss", *, ax: "Axes | None" = None
) -> "Axes":
    """A run's loss or accuracy after each epoch, in training and in validation, with the best one marked."""
    ax = ax or axes(WIDTH / 2, 3)
    training, validation = _course(history, score), _course(history, f"validation_{score}")
    epochs = np.array([record.epoch for record in history])
    ax.plot(epochs, training, "o-", color=BLUE, markersize=3, label="training")
    if not np.isnan(validation).all():
        ax.plot(epochs, validation, "s--", color=ORANGE, markersize=3, label="validation")
        best = np.nanargmin(validation) if score == "loss" else np.nanargmax(validation)
        label = f"best: epoch {epochs[best]}, {_number(validation[best], score)}"
        ax.plot(
            epochs[best], validation[best], "o", color=ORANGE, markersize=10, fillstyle="none", label=label
        )
    _over_epochs(ax, score)
    return ax


def plot_histories(
    histories: "Mapping[str, Sequence[EpochRecord]]",
    score: Literal["loss", "accuracy"] = "loss",
    *,
    ax: "Axes | None" = None,
) -> "Axes":
    """Several runs' validation loss or accuracy over their epochs; training's where a run has no other."""
    ax = ax or axes(WIDTH / 2, 3)
    styles = ("o-", "s--", "^-.", "d:")
    for index, (name, history) in enumerate(histories.items()):
        course, label = _course(history, f"validation_{score}"), name
        if np.isnan(course).all():
            course, label = _course(history, score), f"{name} (training)"
        style, color = styles[index % len(styles)], COLORS[index % len(COLORS)]
        epochs = [record.epoch for record in history]
        ax.plot(epochs, course, style, color=color, markersize=3, label=plain(label))
    _over_epochs(ax, score)
    return ax


def plot_confusion(
    confusion: Any,
    *,
    classes: Sequence[str] = DIGITS,
    errors_only: bool = False,
    ax: "Axes | None" = None,
) -> "Axes":
    """Counts by true class (row) and answer (column), int `[10, 10]`.

    With `errors_only` the right answers are left out, and each mistake is a share of its row: so that what
    is taken for what can be seen.

    Raises:
        InputError: it has another shape.
    """
    counts = real_numbers("confusion", confusion).astype(float)
    if counts.shape != (CLASSES, CLASSES):
        raise InputError(f"a confusion matrix must be [10, 10]; got {list(counts.shape)}")
    shown = counts
    if errors_only:
        shown = 100 * counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
        np.fill_diagonal(shown, 0)
    ax = ax or axes(WIDTH / 1.6, WIDTH / 1.6)
    top = shown.max() or 1
    ax.imshow(shown, cmap=fade(ORANGE if errors_only else BLUE), vmin=0, vmax=top)
    for (row, column), value in np.ndenumerate(shown):
        if round(value, 1) > 0:
            text = f"{value:.1f}" if errors_only else f"{value:.0f}"
            color: dict[str, Any] = {"color": "white"} if value > 0.6 * top else {}
            ax.text(column, row, text, ha="center", va="center", fontsize=7, **color)
    _name_classes(ax, classes, "x")
    _name_classes(ax, classes, "y")
    ax.set_xlabel("answer")
    ax.set_ylabel("true class")
    return ax


def plot_sweep(rows: "Sequence[SweptRow]", *, ax: "Axes | None" = None) -> "Axes":
    """A sweep's validation accuracies by learning rate: a point for each run, a line through each mean.

    There is a line for each combination of the other numbers; what has diverged is left out.
    """
    from matplotlib.ticker import PercentFormatter

    ax = ax or axes(WIDTH / 1.6, 3.2)
    others = list(dict.fromkeys(row.hyper[1:] for row in rows))
    for index, numbers in enumerate(others):
        mine = sorted((row for row in rows if row.hyper[1:] == numbers), key=lambda row: row.hyper[0])
        rates, means = [row.hyper.learning_rate for row in mine], [row.mean for row in mine]
        color = COLORS[index % len(COLORS)]
        label = f"weight decay {numbers[0]:g}, smoothing {numbers[1]:g}"
        ax.plot(rates, means, ("o-", "s--", "^-.", "d:")[index % 4], color=color, markersize=4, label=label)
        for row, rate in zip(mine, rates, strict=True):
            ax.plot([rate] * len(row.accuracies), row.accuracies, ".", color=color, alpha=0.5, markersize=4)
    ax.set(xscale="log", xlabel="learning rate", ylabel="validation accuracy")
    tried = sorted({row.hyper.learning_rate for row in rows})
    ax.set_xticks(tried, [f"{rate:g}" for rate in tried])
    ax.set_xticks([], minor=True)
    ax.yaxis.set_major_formatter(PercentFormatter(1, decimals=2, symbol=" %"))
    ax.legend(fontsize=8)
    return ax


def plot_robustness(curve: "Curve", *, ax: "Axes | None" = None) -> "Axes":
    """Accuracy by how much pictures were changed; above each point a picture changed so."""
    from matplotlib.ticker import PercentFormatter

    ax = ax or axes(WIDTH / 2, 2.6)
    ax.plot(curve.amounts, curve.accuracies, "o-", color=BLUE, markersize=4)
    count = len(curve.amounts)
    half = (curve.amounts[-1] - curve.amounts[0]) / (count - 1) / 2
    ax.set(xlim=(curve.amounts[0] - half, curve.amounts[-1] + half), ylim=(0, 1.03))
    ax.set(xlabel=curve.name, ylabel="right answers")
    ax.set_xticks(curve.amounts, [f"{amount:g}" for amount in curve.amounts])
    ax.yaxis.set_major_formatter(PercentFormatter(1, symbol=" %"))
    ax.grid(axis="y", alpha=0.3)
    for index, picture in enumerate(curve.pictures):
        above = ax.inset_axes(((index + 0.025) / count, 1.02, 0.95 / count, 0.2))
        above.imshow(picture, cmap="gray", vmin=0, vmax=255)
        above.axis("off")
    return ax


def plot_calibration(calibration: "Calibration", *, ax: "Axes | None" = None) -> "Axes":
    """How often a network is right against how sure it is; at the top, how many answers a bar stands for."""
    accuracy, counts = np.asarray(calibration.accuracy), np.asarray(calibration.counts)
    ax = ax or axes(WIDTH / 2, 3.2)
    edges = np.linspace(0, 1, len(counts) + 1)
    ax.plot([0, 1], [0, 1], "--", color=ORANGE, label="as sure as right", zorder=3)
    ax.bar(edges[:-1], accuracy, 1 / len(counts), align="edge", color=BLUE, alpha=0.75, edgecolor="white")
    for left, number in zip(edges, counts, strict=False):
        if number:
            ax.text(left + 0.5 / len(counts), 1.03, f"{number:,}", ha="center", va="bottom", fontsize=6)
    ax.set(xlim=(0, 1), ylim=(0, 1.1), xlabel="probability of the answer", ylabel="share of right answers")
    ax.legend(loc="upper left", fontsize=8, bbox_to_anchor=(0, 0.93))
    ax.set_title(f"expected calibration error {100 * float(calibration.error):.2f} %", fontsize=9)
    return ax


def _name_classes(ax: "Axes", classes: Sequence[str], axis: Literal["x", "y"]) -> None:
    turned = {"rotation": 35, "ha": "right"} if axis == "x" and max(map(len, classes)) > 3 else {}
    getattr(ax, f"set_{axis}ticks")(range(len(classes)), classes, **turned)


def _course(history: "Sequence[EpochRecord]", field: str) -> np.ndarray:
    """A figure after each epoch, NaN where it was not measured."""
    return np.array([getattr(record, field) for record in history], dtype=float)


def _over_epochs(ax: "Axes", score: str) -> None:
    from matplotlib.ticker import MaxNLocator, PercentFormatter

    ax.set(xlabel="epoch", ylabel=score)
    ax.xaxis.set_major_locator(MaxNLocator("auto", integer=True, min_n_ticks=1))
    if score == "accuracy":
        ax.yaxis.set_major_formatter(PercentFormatter(1, symbol=" %"))
    ax.legend(fontsize=8)


def _number(value: float, score: str) -> str:
    return f"{100 * value:.2f} %" if score == "accuracy" else f"{value:.4f}"
