"""A run's report: one page with everything that there is to see of it."""

import functools
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from mnist_jax import plots
from mnist_jax.augment import deform
from mnist_jax.inspection import saliency, silent_units
from mnist_jax.metrics import calibration, class_scores
from mnist_jax.models import activations, predict, scale
from mnist_jax.networks import CLASSES, Spec
from mnist_jax.pages import render, style, svg
from mnist_jax.results import Results
from mnist_jax.robustness import robustness
from mnist_jax.runs import Run
from mnist_jax.swept import Swept
from mnist_jax.types import Images, Key, Params

if TYPE_CHECKING:
    from mnist_jax.datasets import Dataset

GALLERY = 30  # pictures in each
DEFORMED = 5  # rows of deformed pictures
UNITS = 100  # whose weights are shown, at most
CHANGED = 1000  # test images that are changed in every way
LOOKED_AT = 2000  # training images that a unit must be silent on to be called so


def report(
    run: Run,
    results: Results,
    params: Params,
    data: "Dataset",
    probabilities: np.ndarray,
    *,
    command: str,
    onnx_bytes: int,
    swept: Swept | None = None,
) -> str:
    """The report as HTML.

    Args:
        run: what was asked for.
        results: what came out.
        params: the trained network's.
        data: the data set of the run.
        probabilities: the network's `answers` to its test images.
        command: what repeats it.
        onnx_bytes: the size of its ONNX file.
        swept: the sweep that it was chosen by, if it was.
    """
    spec, test = run.config.model, data.test
    images, labels = np.asarray(test.images), np.asarray(test.labels)
    scores = class_scores(jnp.asarray(results.confusion, jnp.int32))
    with style():
        figures = {
            **_of_data(data),
            "deformed": _deformed(run, data),
            **_of_scores(results, data.classes),
            **_of_answers(images, labels, probabilities, data.classes),
            **_of_network(spec, params, data),
            **_of_changes(spec, params, images, labels, jax.random.key(0, impl=run.prng_impl)),
            "sweep": swept and svg("Validation accuracy by learning rate", plots.plot_sweep(swept.rows)),
        }
    return render(
        "report.html",
        run=run,
        results=results,
        classes=data.classes,
        interval=results.interval,
        scores=[[float(score) for score in of_class] for of_class in zip(*scores, strict=True)],
        often=_most_often(results.confusion),
        command=command,
        onnx_bytes=onnx_bytes,
        swept=swept,
        looked_at=min(LOOKED_AT, len(data.train)),
        **figures,
    )


def answers(spec: Spec, params: Params, images: Images, *, batch_size: int = 100) -> np.ndarray:
    """The probabilities of many images, float32 `[n, 10]`, so many at once; a hundred fit caches.

    A sigmoid network's outputs are divided by their sum, as its loss takes them.
    """
    count = len(images)
    rows = np.arange(-(-count // batch_size) * batch_size).reshape(-1, batch_size)
    taken = np.minimum(rows, count - 1)  # the last batch is as large as the others, so that one program does
    found = np.concatenate([np.asarray(_ask(spec, params, images[batch])) for batch in taken])[:count]
    return found / found.sum(axis=1, keepdims=True) if spec.output == "sigmoid" else found


_ask = jax.jit(predict, static_argnums=0)


def _most_often(confusion: np.ndarray, most: int = 5) -> list[tuple[int, int, int]]:
    """The commonest mistakes: true class, answer, how many."""
    mistakes = confusion - np.diag(np.diag(confusion))
    order = np.argsort(-mistakes, axis=None, kind="stable")[:most]
    cells = [divmod(int(place), CLASSES) for place in order]
    return [(true, answer, int(mistakes[true, answer])) for true, answer in cells if mistakes[true, answer]]


def _of_data(data: "Dataset") -> dict[str, Any]:
    images, labels = np.asarray(data.train.images[:GALLERY]), data.train.labels[:GALLERY]
    sets = {"training": data.train, "validation": data.validation, "test": data.test}
    balance = {name: found.labels for name, found in sets.items() if found is not None}
    return {
        "samples": _gallery("Training images with labels", images, [data.classes[label] for label in labels]),
        "balance": svg(
            "Share of each class in each set", plots.plot_class_balance(balance, classes=data.classes)
        ),
    }


def _deformed(run: Run, data: "Dataset") -> Any:
    """An image of each class, and below it what training makes of it; None where it deforms nothing."""
    deformation = run.config.deformation
    if deformation is None:
        return None
    labels = np.asarray(data.train.labels)
    originals = np.asarray(data.train.images)[_first_of_each(labels)]
    keys = jax.random.split(jax.random.key(run.seed, impl=run.prng_impl), (DEFORMED, len(originals)))
    across = jax.vmap(functools.partial(deform, deformation))
    rows = jax.jit(jax.vmap(across, in_axes=(0, None)))(keys, originals)
    pictures = np.concatenate([scale(originals), rows.reshape(-1, *originals.shape[1:])])
    return svg("Training images, and the same deformed", plots.plot_images(pictures, columns=len(originals)))


def _first_of_each(labels: np.ndarray) -> list[int]:
    """Where the first image of each class is."""
    return [int(np.argmax(labels == label)) for label in range(CLASSES) if label in labels]


def _of_scores(results: Results, classes: tuple[str, ...]) -> dict[str, Any]:
    confusion, history = results.confusion, results.history
    return {
        "loss": svg("Loss by epoch", plots.plot_history(history, "loss")),
        "accuracy": svg("Accuracy by epoch", plots.plot_history(history, "accuracy")),
        "confusion": svg("Confusion matrix, counts", plots.plot_confusion(confusion, classes=classes)),
        "errors": svg(
            "Mistakes, in percent of each class",
            plots.plot_confusion(confusion, classes=classes, errors_only=True),
        ),
    }


def _of_answers(
    images: np.ndarray, labels: np.ndarray, probabilities: np.ndarray, classes: tuple[str, ...]
) -> dict[str, Any]:
    given, sure = probabilities.argmax(axis=1), probabilities.max(axis=1)
    wrong = np.flatnonzero(given != labels)
    wrong = wrong[np.argsort(-sure[wrong], kind="stable")][:GALLERY]
    unsure = np.flatnonzero(given == labels)
    unsure = unsure[np.argsort(sure[unsure], kind="stable")][:GALLERY]
    arrow = " → " if max(map(len, classes)) <= 3 else "\n→ "
    of_wrong = [f"{classes[labels[i]]}{arrow}{classes[given[i]]}\n{100 * sure[i]:.1f} %" for i in wrong]
    of_unsure = [f"{classes[labels[i]]}\n{100 * sure[i]:.1f} %" for i in unsure]
    sample = slice(12)
    return {
        "mistakes": _gallery("The most confident mistakes", images[wrong], of_wrong, columns=5),
        "unsure": _gallery("The least certain right answers", images[unsure], of_unsure, columns=5),
        "predictions": svg(
            "Test images with their ten probabilities",
            plots.plot_predictions(images[sample], probabilities[sample], labels[sample], classes=classes),
        ),
        "calibration": svg(
            "Share of right answers by the probability of the answer",
            plots.plot_calibration(calibration(probabilities, labels)),
        ),
    }


def _of_network(spec: Spec, params: Params, data: "Dataset") -> dict[str, Any]:
    """What it looks at; for one test image of each class."""
    labels = np.asarray(data.test.labels)
    first = _first_of_each(labels)
    pictures = np.asarray(data.test.images)[first]
    names = [data.classes[labels[index]] for index in first]
    layers = jax.jit(functools.partial(activations, spec))(params, pictures)
    silent = None
    if layers:
        silent = jax.jit(functools.partial(silent_units, spec))(params, data.train.images[:LOOKED_AT])
    moved = jax.jit(functools.partial(saliency, spec))(params, pictures)
    return {
        "most": UNITS,
        "units": layers[0].shape[-1] if layers else CLASSES,
        "silent": None if silent is None else int(silent.sum()),
        "weights": svg(
            "Weights of the first layer's units", plots.plot_weights(params, silent=silent, most=UNITS)
        ),
        "layers": [
            svg(
                f"What hidden layer {number} makes of a digit of each class",
                plots.plot_activations(layer, names=names),
            )
            for number, layer in enumerate(layers, 1)
        ],
        "saliency": svg(
            "A picture of each class, and the pixels that move its answer most",
            plots.plot_saliency(pictures, moved),
        ),
    }


def _of_changes(
    spec: Spec, params: Params, images: np.ndarray, labels: np.ndarray, key: Key
) -> dict[str, Any]:
    """Accuracy on changed pictures, of which there are too many to take every image."""
    rows = slice(CHANGED)
    curves = robustness(functools.partial(answers, spec, params), images[rows], labels[rows], key)
    return {
        "changed": len(labels[rows]),
        "robustness": [
            svg(f"Right answers by {curve.name}", plots.plot_robustness(curve)) for curve in curves
        ],
    }


def _gallery(title: str, images: np.ndarray, captions: list[str], columns: int | None = None) -> Any:
    """Pictures as one figure; None if there are none."""
    return svg(title, plots.plot_images(images, captions, columns=columns)) if captions else None
