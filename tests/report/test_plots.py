"""Figures show their data, and draw only on the given axes."""

from collections.abc import Callable, Iterator
from typing import Any

import matplotlib
import numpy as np
import pytest

matplotlib.use("agg")

import matplotlib.pyplot as plt
from matplotlib.axes import Axes

from mnist_jax.config.training import HyperParams
from mnist_jax.data.registry import SOURCES
from mnist_jax.errors import InputError
from mnist_jax.evaluation.metrics import calibration
from mnist_jax.evaluation.robustness import AccuracyCurve
from mnist_jax.report import plots
from mnist_jax.runs.sweeps.sweep_results import SweepRow
from mnist_jax.training.records import EpochRecord

RANDOM = np.random.default_rng(0)
IMAGES = RANDOM.integers(0, 256, (12, 28, 28), np.uint8)
LABELS = np.arange(12) % 10
PROBABILITIES = RANDOM.dirichlet(np.ones(10), 12).astype(np.float32)
CONFUSION = np.diag(np.arange(10, 20)) + np.eye(10, k=1, dtype=int) * 2
LOSSES = [(0.9, 0.8), (0.5, 0.4), (0.3, 0.45)]
HISTORY = [EpochRecord(i, a, 1 - a, b, 1 - b, 1.0, 1.0) for i, (a, b) in enumerate(LOSSES, 1)]
UNVALIDATED = [EpochRecord(1, 0.9, 0.1, None, None, 1.0, 1.0)]
CLOTHES = SOURCES["fashion_mnist"].classes
SWEPT = [
    SweepRow(HyperParams(rate, decay, 0.0), (0.9 + rate, 0.93 - decay, float("nan") if rate > 0.01 else 0.9))
    for rate in (1e-3, 1e-2, 3e-2)
    for decay in (0.0, 0.01)
]
FIGURES: dict[str, Callable[..., Axes]] = {
    "images": lambda **ax: plots.plot_images(IMAGES, [f"{i}\n$" for i in LABELS], **ax),
    "clothes": lambda **ax: plots.plot_images(
        IMAGES, [f"{CLOTHES[i]} → {CLOTHES[9 - i]}" for i in LABELS], **ax
    ),
    "confused clothes": lambda **ax: plots.plot_confusion(CONFUSION, classes=CLOTHES, **ax),
    "share of clothes": lambda **ax: plots.plot_class_balance({"a": LABELS}, classes=CLOTHES, **ax),
    "predicted clothes": lambda **ax: plots.plot_predictions(
        IMAGES, PROBABILITIES, LABELS, classes=CLOTHES, **ax
    ),
    "activations of clothes": lambda **ax: plots.plot_activations(
        RANDOM.random((10, 9)), names=CLOTHES, **ax
    ),
    "bare images": lambda **ax: plots.plot_images(IMAGES[:1], **ax),
    "balance": lambda **ax: plots.plot_class_balance({"a": LABELS, "b": LABELS[:3]}, **ax),
    "loss": lambda **ax: plots.plot_history(HISTORY, **ax),
    "accuracy": lambda **ax: plots.plot_history(HISTORY, "accuracy", **ax),
    "no validation": lambda **ax: plots.plot_history(UNVALIDATED, **ax),
    "histories": lambda **ax: plots.plot_histories({"a$b$": HISTORY, "c": UNVALIDATED}, **ax),
    "confusion": lambda **ax: plots.plot_confusion(CONFUSION, **ax),
    "errors": lambda **ax: plots.plot_confusion(CONFUSION, errors_only=True, **ax),
    "no answers": lambda **ax: plots.plot_confusion(np.zeros((10, 10), int), **ax),
    "predictions": lambda **ax: plots.plot_predictions(IMAGES, PROBABILITIES, LABELS, **ax),
    "weights": lambda **ax: plots.plot_weights({"Dense_0": {"kernel": RANDOM.normal(size=(784, 120))}}, **ax),
    "kernels": lambda **ax: plots.plot_weights(
        {"Conv_0": {"kernel": RANDOM.normal(size=(5, 5, 1, 6))}}, **ax
    ),
    "units": lambda **ax: plots.plot_activations(RANDOM.random((10, 50)), **ax),
    "maps": lambda **ax: plots.plot_activations(RANDOM.random((10, 14, 14, 32)), **ax),
    "saliency": lambda **ax: plots.plot_saliency(IMAGES, IMAGES / 255, **ax),
    "robustness": lambda **ax: plots.plot_robustness(
        AccuracyCurve("noise, standard deviation", (0, 0.1, 0.2), (0.9, 0.7, 0.2), IMAGES[:3]), **ax
    ),
    "sweep": lambda **ax: plots.plot_sweep(SWEPT, **ax),
    "calibration": lambda **ax: plots.plot_calibration(calibration(PROBABILITIES, LABELS), **ax),
}


@pytest.fixture(autouse=True)
def closed() -> Iterator[None]:
    yield
    plt.close("all")


@pytest.mark.parametrize("name", FIGURES)
def test_figures_use_only_the_given_axes_and_texts_do_not_overlap(name: str) -> None:
    _, given = plt.subplots()
    assert FIGURES[name](ax=given) is given
    assert len(plt.get_fignums()) == 1
    own = FIGURES[name]()
    assert own is not given
    figure: Any = own.figure
    figure.canvas.draw()
    page, boxes = figure.bbox.padded(2), list(boxed(own))
    for place, (words, box) in enumerate(boxes):
        assert page.contains(box.x0, box.y0) and page.contains(box.x1, box.y1), words
        assert not [other for other, theirs in boxes[:place] if box.overlaps(theirs)], words


def boxed(ax: Axes) -> Iterator[tuple[str, Any]]:
    """Yields each visible text and its bounding box, except rotated ones."""
    result = [*ax.texts]
    if ax.axison:
        result += [ax.title, ax.xaxis.label, ax.yaxis.label]
        for axis in (ax.xaxis, ax.yaxis):
            low, high = sorted(axis.get_view_interval())
            result += [
                tick.label1
                for tick in [*axis.get_major_ticks(), *axis.get_minor_ticks()]
                if low <= tick.get_loc() <= high
            ]
    level = [text for text in result if text.get_text() and text.get_rotation() in (0, 90)]
    yield from ((text.get_text(), text.get_window_extent().padded(-1)) for text in level)


def test_the_robustness_curve_has_images_above_its_points() -> None:
    ax = FIGURES["robustness"]()
    ((amounts, accuracies),) = [line.get_data() for line in ax.lines]
    assert (list(amounts), list(accuracies)) == ([0, 0.1, 0.2], [0.9, 0.7, 0.2])
    ax.figure.canvas.draw()
    for above, amount, picture in zip(ax.child_axes, amounts, IMAGES, strict=False):
        box = above.get_window_extent()
        assert (box.x0 + box.x1) / 2 == pytest.approx(ax.transData.transform((amount, 0))[0], abs=1)
        np.testing.assert_array_equal(above.images[0].get_array(), picture)


def test_all_figures_are_tested() -> None:
    import inspect

    source = inspect.getsource(inspect.getmodule(closed))  # type: ignore[arg-type]
    assert all(f"plots.{name}(" in source for name in plots.__all__)


def texts(ax: Axes) -> list[str]:
    return [text.get_text() for text in ax.texts]


def test_the_best_epoch_is_marked() -> None:
    labels = [text.get_text() for text in FIGURES["loss"]().get_legend().get_texts()]
    assert labels == ["training", "validation", "best: epoch 2, 0.4000"]
    labels = [text.get_text() for text in FIGURES["accuracy"]().get_legend().get_texts()]
    assert labels[2] == "best: epoch 2, 60.00 %"
    assert len(FIGURES["no validation"]().lines) == 1


def test_the_confusion_matrix_shows_counts_or_errors_in_percent() -> None:
    assert texts(FIGURES["confusion"]())[:3] == ["10", "2", "11"]
    assert texts(FIGURES["errors"]())[0] == "16.7"  # 2 of 12
    assert len(texts(FIGURES["errors"]())) == 9


def test_dead_units_are_crossed_out() -> None:
    kernel = {"Dense_0": {"kernel": RANDOM.normal(size=(784, 5))}}
    assert len(plots.plot_weights(kernel, dead=np.array([0, 1, 0, 0, 1], bool)).lines) == 4


def test_the_true_class_has_another_color() -> None:
    ax = plots.plot_predictions(IMAGES[:1], PROBABILITIES[:1], [3])
    colors = [bar.get_facecolor() for bar in ax.patches]
    assert [color for color in colors if color != colors[0]] == [colors[3]]
    widths = np.array([bar.get_width() for bar in ax.patches])
    np.testing.assert_allclose(widths / widths.sum(), PROBABILITIES[0], atol=1e-6)


def test_calibration_bars_are_its_bins() -> None:
    result = calibration(PROBABILITIES, LABELS)
    ax = plots.plot_calibration(result)
    np.testing.assert_allclose([bar.get_height() for bar in ax.patches], result.accuracy)
    assert texts(ax) == [str(count) for count in result.counts if count]


def test_bad_images_and_captions_are_refused() -> None:
    with pytest.raises(InputError, match=r"images must be \[n, height, width\], .*; got \[28, 28\]"):
        plots.plot_images(IMAGES[0])
    with pytest.raises(InputError, match=r"captions must be one for each picture \(12\); got 2"):
        plots.plot_images(IMAGES, ["a", "b"])


@pytest.mark.parametrize(
    ("draw", "message"),
    [
        (lambda: plots.plot_class_balance({}), "class balance needs sets with labels in them; got none"),
        (lambda: plots.plot_class_balance({"a": []}), "class balance needs sets with labels in them; got a"),
        (lambda: plots.plot_confusion(np.ones((3, 2))), r"must be \[classes, classes\]; got \[3, 2\]"),
        (lambda: plots.plot_confusion(np.eye(3), classes="ab"), "must name each of 3 classes; got 2 names"),
        (lambda: plots.plot_saliency(IMAGES, IMAGES[:2]), r"saliency must be of the images' shape"),
        (
            lambda: plots.plot_predictions(IMAGES, PROBABILITIES[:3], LABELS),
            r"each of 12 pictures must have 10 probabilities and a label; got \[3, 10\] and \[12\]",
        ),
    ],
)
def test_data_that_does_not_fit_is_refused(draw: Callable[[], Axes], message: str) -> None:
    with pytest.raises(InputError, match=message):
        draw()
    assert not plt.get_fignums()


def test_labels_may_be_captions_and_names_may_be_any_text() -> None:
    assert texts(plots.plot_images(IMAGES, LABELS))[:3] == ["0", "1", "2"]
    names = ["_one", "$x$ " * 40, "tab\there"]
    ax = plots.plot_histories(dict.fromkeys(names, HISTORY))
    shown = [text.get_text() for text in ax.get_legend().get_texts()]
    assert shown[0] == " _one"
    assert len(shown[1]) < 100
    assert shown[2] == "tab?here"


def test_many_sets_are_all_drawn() -> None:
    ax = plots.plot_class_balance({str(i): LABELS for i in range(8)})
    assert len(ax.patches) == 80


def test_saliency_is_bright_where_it_is_large() -> None:
    sizes = np.zeros((1, 28, 28))
    sizes[0, 3, 4], sizes[0, 5, 6] = 2.0, 1.0
    below = np.asarray(plots.plot_saliency(IMAGES[:1], sizes).images[1].get_array())
    assert (below[3, 4], below[5, 6], below[0, 0]) == (1.0, 0.5, 0.0)
