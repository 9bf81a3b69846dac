"""The HTML report of a run: data, training, errors, network, robustness, calibration, ONNX parity."""

import functools
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from mnist_jax.augmentation.deform import deform
from mnist_jax.config.networks import FlaxModel, Spec
from mnist_jax.evaluation.inspection import dead_units, saliency
from mnist_jax.evaluation.metrics import calibration, class_scores
from mnist_jax.evaluation.robustness import robustness
from mnist_jax.nn.model import intermediates, predict, to_unit_range
from mnist_jax.report import plots
from mnist_jax.report.html import render, style, svg
from mnist_jax.runs.directory import Run
from mnist_jax.runs.results import Results
from mnist_jax.runs.sweeps.sweep_results import SweepTable
from mnist_jax.types import Images, Key, Params

if TYPE_CHECKING:
    from mnist_jax.data.datasets import Dataset

GALLERY = 30  # images per gallery
DEFORMED = 5  # rows of deformed images
SHOWN_CLASSES = 10  # classes of which an image is shown, where one of each is
UNITS = 100  # maximum number of units whose weights are shown
NUM_CORRUPTED = 1000  # test images for the robustness curves
NUM_DEAD_UNIT_IMAGES = 2000  # training images for the search for dead units


def report(
    run: Run,
    results: Results,
    params: Params,
    data: "Dataset",
    probabilities: np.ndarray,
    *,
    command: str,
    onnx_bytes: int,
    swept: SweepTable | None = None,
) -> str:
    """Renders the report as HTML.

    Args:
        run: the run's configuration.
        results: its results.
        params: its trained parameters.
        data: its data set.
        probabilities: the network's `answers` for the test images, float32 `[n, classes]`.
        command: the command that repeats the run; may be empty.
        onnx_bytes: size of its ONNX file.
        swept: the sweep that selected it, if any.
    """
    spec, test = run.config.model, data.test
    images, labels = np.asarray(test.images), np.asarray(test.labels)
    scores = class_scores(jnp.asarray(results.confusion, jnp.int32))
    with style():
        figures = {
            **_data_figures(data),
            "deformed": _deformation_figure(run, data),
            **_score_figures(results, data.classes),
            **_prediction_figures(images, labels, probabilities, data.classes),
            **_network_figures(spec, params, data),
            **_robustness_figures(spec, params, images, labels, jax.random.key(0, impl=run.prng_impl)),
            "sweep": swept and svg("Validation accuracy by learning rate", plots.plot_sweep(swept.rows)),
        }
    return render(
        "report.html",
        run=run,
        results=results,
        classes=data.classes,
        interval=results.interval,
        scores=[[float(score) for score in of_class] for of_class in zip(*scores, strict=True)],
        often=_most_frequent_errors(results.confusion),
        command=command,
        onnx_bytes=onnx_bytes,
        swept=swept,
        examined=min(NUM_DEAD_UNIT_IMAGES, len(data.train)),
        **figures,
    )


def answers(spec: Spec, params: Params, images: Images) -> np.ndarray:
    """Predicts probabilities, float32 `[n, classes]`.

    The outputs of a sigmoid network are divided by their sum, as in its loss.

    Args:
        spec: the network.
        params: its parameters.
        images: `[n, 28, 28]`.
    """
    outputs = np.asarray(predict(spec, params, images))
    return outputs / outputs.sum(axis=1, keepdims=True) if spec.output == "sigmoid" else outputs


def _most_frequent_errors(confusion: np.ndarray, most: int = 5) -> list[tuple[int, int, int]]:
    """Returns the most frequent errors: true class, predicted class, count."""
    errors = confusion - np.diag(np.diag(confusion))
    order = np.argsort(-errors, axis=None, kind="stable")[:most]
    cells = [divmod(int(index), len(confusion)) for index in order]
    return [(true, answer, int(errors[true, answer])) for true, answer in cells if errors[true, answer]]


def _data_figures(data: "Dataset") -> dict[str, Any]:
    images, labels = np.asarray(data.train.images[:GALLERY]), data.train.labels[:GALLERY]
    sets = {"training": data.train, "validation": data.validation, "test": data.test}
    balance = {name: examples.labels for name, examples in sets.items() if examples is not None}
    return {
        "samples": _gallery("Training images with labels", images, [data.classes[label] for label in labels]),
        "balance": svg(
            "Share of each class in each set", plots.plot_class_balance(balance, classes=data.classes)
        ),
    }


def _deformation_figure(run: Run, data: "Dataset") -> Any:
    """Draws one image per class above random deformations of it; None without deformation."""
    deformation = run.config.deformation
    if deformation is None:
        return None
    labels = np.asarray(data.train.labels)
    originals = np.asarray(data.train.images)[_first_of_each(labels)]
    keys = jax.random.split(jax.random.key(run.seed, impl=run.prng_impl), (DEFORMED, len(originals)))
    deform_row = jax.vmap(functools.partial(deform, deformation))
    rows = jax.jit(jax.vmap(deform_row, in_axes=(0, None)))(keys, originals)
    pictures = np.concatenate([to_unit_range(originals), rows.reshape(-1, *originals.shape[1:])])
    return svg("Training images and their deformations", plots.plot_images(pictures, columns=len(originals)))


def _first_of_each(labels: np.ndarray) -> list[int]:
    """Returns the index of the first image of each class, for the first `SHOWN_CLASSES` classes."""
    return [int(np.argmax(labels == label)) for label in np.unique(labels)[:SHOWN_CLASSES]]


def _score_figures(results: Results, classes: tuple[str, ...]) -> dict[str, Any]:
    confusion, history = results.confusion, results.history
    return {
        "loss": svg("Loss by epoch", plots.plot_history(history, "loss")),
        "accuracy": svg("Accuracy by epoch", plots.plot_history(history, "accuracy")),
        "confusion": svg("Confusion matrix, counts", plots.plot_confusion(confusion, classes=classes)),
        "errors": svg(
            "Errors, in percent of each class",
            plots.plot_confusion(confusion, classes=classes, errors_only=True),
        ),
    }


def _prediction_figures(
    images: np.ndarray, labels: np.ndarray, probabilities: np.ndarray, classes: tuple[str, ...]
) -> dict[str, Any]:
    predicted, confidence = probabilities.argmax(axis=1), probabilities.max(axis=1)
    wrong = np.flatnonzero(predicted != labels)
    wrong = wrong[np.argsort(-confidence[wrong], kind="stable")][:GALLERY]
    unsure = np.flatnonzero(predicted == labels)
    unsure = unsure[np.argsort(confidence[unsure], kind="stable")][:GALLERY]
    arrow = " → " if max(map(len, classes)) <= 3 else "\n→ "
    percents = [f"{100 * value:.1f} %" for value in confidence]
    wrong_captions = [f"{classes[labels[i]]}{arrow}{classes[predicted[i]]}\n{percents[i]}" for i in wrong]
    unsure_captions = [f"{classes[labels[i]]}\n{percents[i]}" for i in unsure]
    sample = slice(12)
    return {
        "mistakes": _gallery("Most confident errors", images[wrong], wrong_captions, columns=5),
        "unsure": _gallery("Least confident correct predictions", images[unsure], unsure_captions, columns=5),
        "predictions": svg(
            "Test images with predicted probabilities",
            plots.plot_predictions(images[sample], probabilities[sample], labels[sample], classes=classes),
        ),
        "calibration": svg(
            "Accuracy by predicted probability",
            plots.plot_calibration(calibration(probabilities, labels)),
        ),
    }


def _network_figures(spec: Spec, params: Params, data: "Dataset") -> dict[str, Any]:
    """Draws weights, activations and saliency, for one test image per class."""
    labels = np.asarray(data.test.labels)
    first = _first_of_each(labels)
    pictures = np.asarray(data.test.images)[first]
    names = [data.classes[labels[index]] for index in first]
    layers = jax.jit(functools.partial(intermediates, spec))(params, pictures)
    dead = None
    if layers:
        dead = jax.jit(functools.partial(dead_units, spec))(params, data.train.images[:NUM_DEAD_UNIT_IMAGES])
    gradients = jax.jit(functools.partial(saliency, spec))(params, pictures)
    return {
        "most": UNITS,
        "units": layers[0].shape[-1] if layers else spec.num_classes,
        "dead": None if dead is None else int(dead.sum()),
        "weights": None
        if isinstance(spec, FlaxModel)
        else svg("Weights of the first layer's units", plots.plot_weights(params, dead=dead, most=UNITS)),
        "layers": [
            svg(
                f"Activations of hidden layer {number}, for one image per class",
                plots.plot_activations(layer, names=names),
            )
            for number, layer in enumerate(layers, 1)
        ],
        "saliency": svg(
            "Saliency, for one image per class",
            plots.plot_saliency(pictures, gradients),
        ),
    }


def _robustness_figures(
    spec: Spec, params: Params, images: np.ndarray, labels: np.ndarray, key: Key
) -> dict[str, Any]:
    """Draws accuracy under corruptions, on the first test images only, since there are many corruptions."""
    rows = slice(NUM_CORRUPTED)
    curves = robustness(functools.partial(answers, spec, params), images[rows], labels[rows], key)
    return {
        "changed": len(labels[rows]),
        "robustness": [svg(f"Accuracy by {curve.name}", plots.plot_robustness(curve)) for curve in curves],
    }


def _gallery(title: str, images: np.ndarray, captions: list[str], columns: int | None = None) -> Any:
    """Draws images as one figure; None if there are none."""
    return svg(title, plots.plot_images(images, captions, columns=columns)) if captions else None
