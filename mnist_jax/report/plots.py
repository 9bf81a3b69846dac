"""All figures, as functions `plot_...(data, *, ax=None) -> Axes`, for notebooks and for the report.

Without `ax`, each creates its own pyplot figure of a suitable size. Backgrounds are transparent, so that
figures suit light and dark pages.
"""

from collections.abc import Mapping, Sequence
from itertools import cycle
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from mnist_jax.config.input_checks import as_labels, as_real
from mnist_jax.config.networks import CLASSES
from mnist_jax.data.registry import DIGITS
from mnist_jax.errors import InputError
from mnist_jax.report.curves import (
    plot_calibration,
    plot_histories,
    plot_history,
    plot_robustness,
    plot_sweep,
)
from mnist_jax.report.image_grids import (
    plot_activations,
    plot_images,
    plot_predictions,
    plot_saliency,
    plot_weights,
)
from mnist_jax.report.style import BLUE, COLORS, ORANGE, WIDTH, axes, fade

if TYPE_CHECKING:
    from matplotlib.axes import Axes

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
    """Draws the share of each class in each set as bars.

    Args:
        labels: int `[n]` of each set, by its name.
        classes: names of the classes.
        ax: axes to draw on; by default those of a new figure.

    Raises:
        InputError: there is no set, a set is empty, or its labels are invalid.

    Examples:
        >>> from matplotlib.figure import Figure
        >>> ax = plot_class_balance({"training": [0, 1, 1]}, ax=Figure().subplots())
        >>> len(ax.patches)
        10
    """
    arrays = {name: as_real("labels", values) for name, values in labels.items()}
    if not arrays or not all(values.size for values in arrays.values()):
        raise InputError("class balance needs sets with labels in them; got " + (", ".join(labels) or "none"))
    sets = {name: as_labels(values) for name, values in arrays.items()}
    ax = ax or axes(WIDTH, 2.8)
    width = 0.8 / len(sets)
    for index, ((name, values), color) in enumerate(zip(sets.items(), cycle(COLORS), strict=False)):
        shares = np.bincount(values, minlength=CLASSES) / len(values)
        places = np.arange(CLASSES) + (index - (len(labels) - 1) / 2) * width
        ax.bar(places, 100 * shares, width, color=color, label=f"{name} ({len(values):,})")
    _name_classes(ax, classes, "x")
    ax.set_ylabel("share of the set, %")
    ax.margins(y=0.3)  # for the legend
    ax.legend(ncols=len(labels), loc="upper center", fontsize=8)
    return ax


def plot_confusion(
    confusion: Any,
    *,
    classes: Sequence[str] = DIGITS,
    errors_only: bool = False,
    ax: "Axes | None" = None,
) -> "Axes":
    """Draws a confusion matrix.

    Args:
        confusion: int `[10, 10]`: row true class, column predicted class.
        classes: names of the classes.
        errors_only: leaves out correct predictions, and shows errors in percent of their row.
        ax: axes to draw on; by default those of a new figure.

    Raises:
        InputError: `confusion` has another shape.

    Examples:
        >>> from matplotlib.figure import Figure
        >>> ax = plot_confusion(np.eye(10, dtype=int), ax=Figure().subplots())
        >>> ax.get_xlabel(), len(ax.texts)
        ('predicted class', 10)
    """
    counts = as_real("confusion", confusion).astype(float)
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
    ax.set_xlabel("predicted class")
    ax.set_ylabel("true class")
    return ax


def _name_classes(ax: "Axes", classes: Sequence[str], axis: Literal["x", "y"]) -> None:
    rotation = {"rotation": 35, "ha": "right"} if axis == "x" and max(map(len, classes)) > 3 else {}
    getattr(ax, f"set_{axis}ticks")(range(len(classes)), classes, **rotation)
