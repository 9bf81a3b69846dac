"""Figures that consist of images. Public through `plots`."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from mnist_jax.config.input_checks import as_real
from mnist_jax.data.registry import numbered
from mnist_jax.errors import InputError
from mnist_jax.report.style import BLUE, ORANGE, WIDTH, axes, fade, plain, short

MAX_BARS = 10  # bars beside an image

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def plot_images(
    images: Any, captions: Iterable[Any] = (), *, columns: int | None = None, ax: "Axes | None" = None
) -> "Axes":
    """Draws images in a grid, white on black, each with a caption below it.

    Args:
        images: `[n, height, width]`.
        captions: one per image, or none.
        columns: images per row; by default as many as fit.
        ax: axes to draw on; by default those of a new figure.

    Raises:
        InputError: there is no image, or the number of captions differs from that of the images.

    Examples:
        >>> from matplotlib.figure import Figure
        >>> ax = plot_images(np.zeros((2, 28, 28)), ["3", "5"], ax=Figure().subplots())
        >>> [text.get_text() for text in ax.texts]
        ['3', '5']
    """
    pictures, written = _pictures(images), [str(caption) for caption in captions]
    _, height, width = pictures.shape
    if written and len(written) != len(pictures):
        raise InputError(f"captions must be one for each picture ({len(pictures)}); got {len(written)}")
    lines = [caption.split("\n") for caption in written]
    letters = max((len(line) for caption in lines for line in caption), default=0)
    scale = width / 0.62  # pixels to an inch
    cell = max(width + 2, math.ceil(letters * 0.075 * scale))
    columns = columns or max(1, min(len(pictures), int(WIDTH * scale / cell)))
    below = math.ceil(max(map(len, lines), default=0) * 0.145 * scale)
    mosaic, places = _mosaic(pictures, columns, 2 + below, 2 + cell - width)
    ax = ax or axes(mosaic.shape[1] / scale, mosaic.shape[0] / scale)
    ax.imshow(mosaic, cmap="gray", vmin=0, vmax=pictures.max() or 1, interpolation="none")
    for caption, (row, column) in zip(written, places, strict=bool(written)):
        ax.text(column + width / 2 - 0.5, row + height, plain(caption), ha="center", va="top", fontsize=8)
    ax.set_axis_off()
    return ax


def plot_predictions(
    images: Any,
    probabilities: Any,
    labels: Any,
    *,
    classes: Sequence[str] | None = None,
    columns: int = 4,
    ax: "Axes | None" = None,
) -> "Axes":
    """Draws images with their predicted probabilities as bars; the true class's bar is blue.

    Of more than ten classes, the most probable ones are drawn.

    Args:
        images: `[n, height, width]`.
        probabilities: `[n, classes]`.
        labels: true classes, int `[n]`.
        classes: names of the classes; by default their numbers.
        columns: images per row.
        ax: axes to draw on; by default those of a new figure.

    Raises:
        InputError: the shapes do not match.

    Examples:
        >>> from matplotlib.figure import Figure
        >>> probabilities = np.eye(10)[[3, 5]]
        >>> ax = plot_predictions(np.zeros((2, 28, 28)), probabilities, [3, 5], ax=Figure().subplots())
        >>> len(ax.patches)
        20
    """
    pictures, shares, classified = (
        _pictures(images),
        as_real("probabilities", probabilities),
        as_real("labels", labels),
    )
    classes = numbered(shares.shape[-1]) if classes is None else classes
    if shares.shape != (len(pictures), len(classes)) or classified.shape != (len(pictures),):
        got = f"{list(shares.shape)} and {list(classified.shape)}"
        raise InputError(
            f"each of {len(pictures)} pictures must have {len(classes)} probabilities and a label; got {got}"
        )
    rows = math.ceil(len(pictures) / columns)
    names = 1.12 + 0.06 * max(len(short(name)) for name in classes)  # in image widths
    bars = min(len(classes), MAX_BARS)
    ax = ax or axes(WIDTH, rows * WIDTH / columns / 2)
    for index, (picture, row, label) in enumerate(zip(pictures, shares, classified, strict=True)):
        x, y = 2.3 * (index % columns), -1.15 * (index // columns)
        ax.imshow(picture, cmap="gray", vmin=0, vmax=pictures.max() or 1, extent=(x, x + 1, y - 1, y),
                  interpolation="none")  # fmt: skip
        most = np.arange(bars) if len(classes) == bars else np.argsort(-row, kind="stable")[:bars]
        places = y - (np.arange(bars) + 0.5) / bars
        colors = [BLUE if i == label else ORANGE for i in most]
        ax.barh(places, (2.1 - names) * row[most], 0.8 / bars, left=x + names, color=colors)
        for i, place in zip(most, places, strict=True):
            text = short(classes[i])
            ax.text(x + names - 0.04, place, text, ha="right", va="center", fontsize=5.5)
    ax.set_xlim(-0.05, 2.3 * columns - 0.2)
    ax.set_ylim(-1.15 * rows + 0.1, 0.05)
    ax.set_aspect("equal")
    ax.set_axis_off()
    return ax


def plot_weights(
    params: Mapping[str, Any], *, dead: Any = None, most: int = 100, ax: "Axes | None" = None
) -> "Axes":
    """Draws the weights of each unit of the first layer as an image: red is positive, blue is negative.

    Args:
        params: a network's parameters.
        dead: bool `[units]`, such as from `inspection.dead_units`; these units are crossed out.
        most: maximum number of units to show.
        ax: axes to draw on; by default those of a new figure.

    Raises:
        InputError: `dead` has another shape.

    Examples:
        >>> from matplotlib.figure import Figure
        >>> params = {"Dense_0": {"kernel": np.ones((784, 6)), "bias": np.zeros(6)}}
        >>> ax = plot_weights(params, ax=Figure().subplots())
        >>> len(ax.images)
        1
    """
    kernel = np.asarray(params["Conv_0" if "Conv_0" in params else "Dense_0"]["kernel"])
    side = kernel.shape[0] if kernel.ndim == 4 else 28
    pictures = np.moveaxis(kernel.reshape(side, side, -1), -1, 0)[:most]
    crosses = np.zeros(kernel.shape[-1]) if dead is None else as_real("dead", dead)
    if crosses.shape != kernel.shape[-1:]:
        raise InputError(f"dead must be bool [{kernel.shape[-1]}], one a unit; got {list(crosses.shape)}")
    gap = max(1, side // 14)
    columns = min(len(pictures), 20 if len(pictures) > 50 else 10)
    mosaic, places = _mosaic(pictures, columns, gap, gap)
    ax = ax or axes(WIDTH, WIDTH * mosaic.shape[0] / mosaic.shape[1])
    reach = np.quantile(np.abs(pictures), 0.995) or 1  # so that a few large weights do not dominate
    ax.imshow(mosaic, cmap="RdBu_r", vmin=-reach, vmax=reach, interpolation="none")
    for crossed, (row, column) in zip(crosses[:most], places, strict=True):
        if crossed:
            ends = np.array([0, side - 1])
            ax.plot(column + ends, row + ends, color="black", linewidth=1)
            ax.plot(column + ends, row + ends[::-1], color="black", linewidth=1)
    ax.set_axis_off()
    return ax


def plot_activations(hidden: Any, *, names: Sequence[str] = (), ax: "Axes | None" = None) -> "Axes":
    """Draws the activations of a hidden layer: one row of units, or of feature maps, per image.

    Args:
        hidden: `[n, width]` or `[n, side, side, channels]`: one of the arrays from `intermediates`.
        names: labels of the rows; by default their indices.
        ax: axes to draw on; by default those of a new figure.

    Raises:
        InputError: `hidden` has another shape, or is empty.

    Examples:
        >>> from matplotlib.figure import Figure
        >>> ax = plot_activations(np.ones((2, 16)), names=["3", "5"], ax=Figure().subplots())
        >>> ax.get_xlabel()
        'units'
    """
    values = as_real("hidden", hidden)
    if values.ndim not in (2, 4) or not values.size:
        raise InputError(
            "hidden must be [n, width] or [n, side, side, channels], with n at least 1; "
            f"got {list(values.shape)}"
        )
    aspect: Literal["equal", "auto"]
    if values.ndim == 4:
        total = values.shape[-1]
        values = values[..., :16]
        count, side, _, channels = values.shape
        maps = np.moveaxis(values, -1, 1).reshape(count * channels, side, side)
        shown, _ = _mosaic(maps, channels, 1, 1)
        middles, aspect = (np.arange(count) * (side + 1) + side / 2 - 0.5), "equal"
        what = "channels" if total <= 16 else f"channels, the first 16 of {total}"
    else:
        shown, middles, aspect, what = values, np.arange(len(values)), "auto", "units"
    ax = ax or axes(WIDTH, WIDTH * shown.shape[0] / shown.shape[1] + 0.3 if aspect == "equal" else 2.2)
    ax.imshow(shown, cmap=fade(BLUE), vmin=min(0.0, values.min()), vmax=values.max() or 1, aspect=aspect,
              interpolation="none")  # fmt: skip
    ax.set_yticks(middles, [str(name) for name in names] or [str(index) for index in range(len(values))])
    ax.set_xticks([])
    ax.set_xlabel(what)
    return ax


def plot_saliency(images: Any, saliency: Any, *, ax: "Axes | None" = None) -> "Axes":
    """Draws images, and their saliency below them: bright pixels affect the prediction most.

    Args:
        images: `[n, height, width]`.
        saliency: `[n, height, width]`, such as from `inspection.saliency`.
        ax: axes to draw on; by default those of a new figure.

    Raises:
        InputError: the shapes differ.

    Examples:
        >>> from matplotlib.figure import Figure
        >>> ax = plot_saliency(np.ones((2, 28, 28)), np.ones((2, 28, 28)), ax=Figure().subplots())
        >>> len(ax.images)
        2
    """
    pictures, sizes = _pictures(images), _pictures(saliency)
    if pictures.shape != sizes.shape:
        raise InputError(
            f"saliency must be of the images' shape {list(pictures.shape)}; got {list(sizes.shape)}"
        )
    sizes = sizes / np.maximum(sizes.max(axis=(1, 2), keepdims=True), np.finfo(np.float32).tiny)
    ax = ax or axes(WIDTH, 2 * WIDTH / len(pictures))
    for row, (shown, colors) in enumerate(((pictures, "gray"), (sizes, "inferno"))):
        mosaic, _ = _mosaic(shown, len(shown))
        height, width = mosaic.shape
        extent = (0, width, -(row + 1) * height, -row * height)
        ax.imshow(mosaic, cmap=colors, vmin=0, vmax=shown.max() or 1, extent=extent, interpolation="none")
    ax.set_ylim(-2 * height, 0)
    ax.set_axis_off()
    return ax


def _pictures(images: Any) -> np.ndarray:
    pictures = as_real("images", images)
    if pictures.ndim != 3 or not len(pictures):
        raise InputError(f"images must be [n, height, width], with n at least 1; got {list(pictures.shape)}")
    return pictures


def _mosaic(
    pictures: np.ndarray, columns: int, below: int = 2, beside: int = 2
) -> tuple[np.ndarray, list[tuple[int, int]]]:
    """Arranges images in a grid with NaN (transparent) gaps; returns it with each image's row and column."""
    _, height, width = pictures.shape
    rows = math.ceil(len(pictures) / columns)
    mosaic = np.full((rows * (height + below), columns * (width + beside)), np.nan, np.float32)
    places = []
    for index, picture in enumerate(pictures):
        row, column = index // columns * (height + below), index % columns * (width + beside)
        mosaic[row : row + height, column : column + width] = picture
        places.append((row, column))
    return mosaic, places
