"""All figures, as functions `plot_...(data, *, ax=None) -> Axes`, for notebooks and for the report.

Without `ax`, each creates its own pyplot figure of a suitable size. Backgrounds are transparent, so that
figures suit light and dark pages.
"""

from collections.abc import Mapping, Sequence
from itertools import cycle
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from mnist_jax.config.input_checks import as_labels, as_real
from mnist_jax.data.registry import numbered
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
from mnist_jax.report.style import BLUE, COLORS, ORANGE, WIDTH, axes, fade, short

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MAX_NUMBERED = 20  # classes in a confusion matrix with numbers in its cells
MAX_NAMES = 64  # names of classes along an axis

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
    labels: Mapping[str, Any], *, classes: Sequence[str] | None = None, ax: "Axes | None" = None
) -> "Axes":
    """Draws the share of each class in each set as bars.

    Args:
        labels: int `[n]` of each set, by its name.
        classes: names of the classes; by default ten digits.
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
    classes = numbered(10) if classes is None else classes
    sets = {name: as_labels(values, num_classes=len(classes)) for name, values in arrays.items()}
    ax = ax or axes(WIDTH, 2.8)
    width = 0.8 / len(sets)
    for index, ((name, values), color) in enumerate(zip(sets.items(), cycle(COLORS), strict=False)):
        shares = np.bincount(values, minlength=len(classes)) / len(values)
        places = np.arange(len(classes)) + (index - (len(labels) - 1) / 2) * width
        ax.bar(places, 100 * shares, width, color=color, label=f"{name} ({len(values):,})")
    _name_classes(ax, classes, "x")
    ax.set_ylabel("share of the set, %")
    ax.margins(y=0.3)  # for the legend
    ax.legend(ncols=len(labels), loc="upper center", fontsize=8)
    return ax


def plot_confusion(
    confusion: Any,
    *,
    classes: Sequence[str] | None = None,
    errors_only: bool = False,
    ax: "Axes | None" = None,
) -> "Axes":
    """Draws a confusion matrix.

    Args:
        confusion: int `[classes, classes]`: row true class, column predicted class.
        classes: names of the classes; by default their numbers.
        errors_only: leaves out correct predictions, and shows errors in percent of their row.
        ax: axes to draw on; by default those of a new figure.

    Raises:
        InputError: `confusion` is not square, or `classes` has another length.

    Examples:
        >>> from matplotlib.figure import Figure
        >>> ax = plot_confusion(np.eye(10, dtype=int), ax=Figure().subplots())
        >>> ax.get_xlabel(), len(ax.texts)
        ('predicted class', 10)
    """
    counts = as_real("confusion", confusion).astype(float)
    if counts.ndim != 2 or counts.shape[0] != counts.shape[1]:
        raise InputError(f"a confusion matrix must be [classes, classes]; got {list(counts.shape)}")
    classes = numbered(len(counts)) if classes is None else classes
    if len(classes) != len(counts):
        raise InputError(f"classes must name each of {len(counts)} classes; got {len(classes)} names")
    shown = counts
    if errors_only:
        shown = 100 * counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
        np.fill_diagonal(shown, 0)
    many = len(counts) > MAX_NUMBERED
    ax = ax or axes(*[WIDTH if many else WIDTH / 1.6] * 2)
    top = shown.max() or 1
    ax.imshow(shown, cmap=fade(ORANGE if errors_only else BLUE), vmin=0, vmax=top)
    for (row, column), value in np.ndenumerate(shown):
        if round(value, 1) > 0 and not many:  # their numbers would not fit into the cells
            text = f"{value:.1f}" if errors_only else f"{value:.0f}"
            color: dict[str, Any] = {"color": "white"} if value > 0.6 * top else {}
            ax.text(column, row, text, ha="center", va="center", fontsize=7, **color)
    _name_classes(ax, classes, "x")
    _name_classes(ax, classes, "y")
    ax.set_xlabel("predicted class")
    ax.set_ylabel("true class")
    return ax


def _name_classes(ax: "Axes", classes: Sequence[str], axis: Literal["x", "y"]) -> None:
    """Labels an axis with the classes, or with every nth of them where they would not fit."""
    step = -(-len(classes) // MAX_NAMES)
    shown = [short(name) for name in classes[::step]]
    style: dict[str, Any] = {"fontsize": 6} if len(classes) > MAX_NUMBERED else {}
    if axis == "x" and max(map(len, shown)) > 3:
        style |= {"rotation": 35, "ha": "right"}
    getattr(ax, f"set_{axis}ticks")(range(0, len(classes), step), shown, **style)
