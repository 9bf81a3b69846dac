"""Curves over epochs, hyperparameters, corruptions and confidence. Public through `plots`."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Literal

import numpy as np

from mnist_jax.report.style import BLUE, COLORS, ORANGE, WIDTH, axes, plain

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from mnist_jax.evaluation.metrics import Calibration
    from mnist_jax.evaluation.robustness import AccuracyCurve
    from mnist_jax.runs.sweeps.sweep_results import SweepRow
    from mnist_jax.training.records import EpochRecord


def plot_history(
    history: "Sequence[EpochRecord]", score: Literal["loss", "accuracy"] = "loss", *, ax: "Axes | None" = None
) -> "Axes":
    """Draws a run's training and validation loss or accuracy by epoch, and marks the best epoch.

    Args:
        history: one record per epoch.
        score: what to draw.
        ax: axes to draw on; by default those of a new figure.

    Examples:
        >>> from matplotlib.figure import Figure
        >>> from mnist_jax import EpochRecord
        >>> history = [EpochRecord(1, 0.5, 0.8, 0.6, 0.75, 1.0, 64.0)]
        >>> ax = plot_history(history, "accuracy", ax=Figure().subplots())
        >>> ax.get_ylabel(), len(ax.lines)
        ('accuracy', 3)
    """
    ax = ax or axes(WIDTH / 2, 3)
    training, validation = _values(history, score), _values(history, f"validation_{score}")
    epochs = np.array([record.epoch for record in history])
    ax.plot(epochs, training, "o-", color=BLUE, markersize=3, label="training")
    if not np.isnan(validation).all():
        ax.plot(epochs, validation, "s--", color=ORANGE, markersize=3, label="validation")
        best = np.nanargmin(validation) if score == "loss" else np.nanargmax(validation)
        label = f"best: epoch {epochs[best]}, {_format(validation[best], score)}"
        ax.plot(
            epochs[best], validation[best], "o", color=ORANGE, markersize=10, fillstyle="none", label=label
        )
    _label_epochs(ax, score)
    return ax


def plot_histories(
    histories: "Mapping[str, Sequence[EpochRecord]]",
    score: Literal["loss", "accuracy"] = "loss",
    *,
    ax: "Axes | None" = None,
) -> "Axes":
    """Draws several runs' validation loss or accuracy by epoch; training values for runs without validation.

    Args:
        histories: one history per run, by its name.
        score: what to draw.
        ax: axes to draw on; by default those of a new figure.

    Examples:
        >>> from matplotlib.figure import Figure
        >>> from mnist_jax import EpochRecord
        >>> history = [EpochRecord(1, 0.5, 0.8, 0.6, 0.75, 1.0, 64.0)]
        >>> ax = plot_histories({"a": history, "b": history}, ax=Figure().subplots())
        >>> len(ax.lines)
        2
    """
    ax = ax or axes(WIDTH / 2, 3)
    styles = ("o-", "s--", "^-.", "d:")
    for index, (name, history) in enumerate(histories.items()):
        values, label = _values(history, f"validation_{score}"), name
        if np.isnan(values).all():
            values, label = _values(history, score), f"{name} (training)"
        style, color = styles[index % len(styles)], COLORS[index % len(COLORS)]
        epochs = [record.epoch for record in history]
        ax.plot(epochs, values, style, color=color, markersize=3, label=plain(label))
    _label_epochs(ax, score)
    return ax


def plot_sweep(rows: "Sequence[SweepRow]", *, ax: "Axes | None" = None) -> "Axes":
    """Draws a sweep's validation accuracy by learning rate: a point per run, and lines through the means.

    There is one line per combination of the other hyperparameters. Diverged runs are left out.

    Args:
        rows: the sweep's rows.
        ax: axes to draw on; by default those of a new figure.

    Examples:
        >>> from matplotlib.figure import Figure
        >>> from mnist_jax import HyperParams
        >>> from mnist_jax.runs.sweeps.sweep_results import SweepRow
        >>> rows = [SweepRow(HyperParams(rate), (0.9, 0.92)) for rate in (1e-3, 1e-2)]
        >>> ax = plot_sweep(rows, ax=Figure().subplots())
        >>> ax.get_xlabel()
        'learning rate'
    """
    from matplotlib.ticker import PercentFormatter

    ax = ax or axes(WIDTH / 1.6, 3.2)
    others = list(dict.fromkeys(row.hyperparams[1:] for row in rows))
    for index, other in enumerate(others):
        line = sorted(
            (row for row in rows if row.hyperparams[1:] == other), key=lambda row: row.hyperparams[0]
        )
        rates, means = [row.hyperparams.learning_rate for row in line], [row.mean for row in line]
        color = COLORS[index % len(COLORS)]
        label = f"weight decay {other[0]:g}, smoothing {other[1]:g}"
        ax.plot(rates, means, ("o-", "s--", "^-.", "d:")[index % 4], color=color, markersize=4, label=label)
        for row, rate in zip(line, rates, strict=True):
            ax.plot([rate] * len(row.accuracies), row.accuracies, ".", color=color, alpha=0.5, markersize=4)
    ax.set(xscale="log", xlabel="learning rate", ylabel="validation accuracy")
    ticks = sorted({row.hyperparams.learning_rate for row in rows})
    ax.set_xticks(ticks, [f"{rate:g}" for rate in ticks])
    ax.set_xticks([], minor=True)
    ax.yaxis.set_major_formatter(PercentFormatter(1, decimals=2, symbol=" %"))
    ax.legend(fontsize=8)
    return ax


def plot_robustness(curve: "AccuracyCurve", *, ax: "Axes | None" = None) -> "Axes":
    """Draws accuracy by the strength of a corruption, with a corrupted image above each point.

    Args:
        curve: a curve from `robustness`.
        ax: axes to draw on; by default those of a new figure.

    Examples:
        >>> from matplotlib.figure import Figure
        >>> from mnist_jax.evaluation.robustness import AccuracyCurve
        >>> curve = AccuracyCurve("noise", (0, 0.2), (0.9, 0.5), np.zeros((2, 28, 28)))
        >>> ax = plot_robustness(curve, ax=Figure().subplots())
        >>> ax.get_xlabel(), ax.get_ylabel()
        ('noise', 'accuracy')
    """
    from matplotlib.ticker import PercentFormatter

    ax = ax or axes(WIDTH / 2, 2.6)
    ax.plot(curve.amounts, curve.accuracies, "o-", color=BLUE, markersize=4)
    count = len(curve.amounts)
    half = (curve.amounts[-1] - curve.amounts[0]) / (count - 1) / 2
    ax.set(xlim=(curve.amounts[0] - half, curve.amounts[-1] + half), ylim=(0, 1.03))
    ax.set(xlabel=curve.name, ylabel="accuracy")
    ax.set_xticks(curve.amounts, [f"{amount:g}" for amount in curve.amounts])
    ax.yaxis.set_major_formatter(PercentFormatter(1, symbol=" %"))
    ax.grid(axis="y", alpha=0.3)
    for index, picture in enumerate(curve.pictures):
        above = ax.inset_axes(((index + 0.025) / count, 1.02, 0.95 / count, 0.2))
        above.imshow(picture, cmap="gray", vmin=0, vmax=255)
        above.axis("off")
    return ax


def plot_calibration(calibration: "Calibration", *, ax: "Axes | None" = None) -> "Axes":
    """Draws a reliability diagram: accuracy by predicted probability, with the number of predictions per bin.

    Args:
        calibration: the result of `metrics.calibration`.
        ax: axes to draw on; by default those of a new figure.

    Examples:
        >>> from matplotlib.figure import Figure
        >>> from mnist_jax import metrics
        >>> calibration = metrics.calibration(np.eye(10, dtype=np.float32), np.arange(10))
        >>> ax = plot_calibration(calibration, ax=Figure().subplots())
        >>> ax.get_title()
        'expected calibration error 0.00 %'
    """
    accuracy, counts = np.asarray(calibration.accuracy), np.asarray(calibration.counts)
    ax = ax or axes(WIDTH / 2, 3.2)
    edges = np.linspace(0, 1, len(counts) + 1)
    ax.plot([0, 1], [0, 1], "--", color=ORANGE, label="perfect calibration", zorder=3)
    ax.bar(edges[:-1], accuracy, 1 / len(counts), align="edge", color=BLUE, alpha=0.75, edgecolor="white")
    for left, number in zip(edges, counts, strict=False):
        if number:
            ax.text(left + 0.5 / len(counts), 1.03, f"{number:,}", ha="center", va="bottom", fontsize=6)
    ax.set(xlim=(0, 1), ylim=(0, 1.1), xlabel="predicted probability", ylabel="accuracy")
    ax.legend(loc="upper left", fontsize=8, bbox_to_anchor=(0, 0.93))
    ax.set_title(f"expected calibration error {100 * float(calibration.error):.2f} %", fontsize=9)
    return ax


def _values(history: "Sequence[EpochRecord]", field: str) -> np.ndarray:
    """Returns a field's value for each epoch, NaN where it is None."""
    return np.array([getattr(record, field) for record in history], dtype=float)


def _label_epochs(ax: "Axes", score: str) -> None:
    from matplotlib.ticker import MaxNLocator, PercentFormatter

    ax.set(xlabel="epoch", ylabel=score)
    ax.xaxis.set_major_locator(MaxNLocator("auto", integer=True, min_n_ticks=1))
    if score == "accuracy":
        ax.yaxis.set_major_formatter(PercentFormatter(1, symbol=" %"))
    ax.legend(fontsize=8)


def _format(value: float, score: str) -> str:
    return f"{100 * value:.2f} %" if score == "accuracy" else f"{value:.4f}"
