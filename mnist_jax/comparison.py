"""Runs side by side: where their networks disagree, and whether one is better than chance would have it."""

from collections.abc import Sequence
from dataclasses import fields
from itertools import combinations
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from mnist_jax import plots
from mnist_jax.pages import render, style, svg
from mnist_jax.results import Results
from mnist_jax.runs import Run

if TYPE_CHECKING:
    from mnist_jax.datasets import Dataset

GALLERY = 40


class Member(NamedTuple):
    """A run that is compared with others.

    Attributes:
        name: what it is called, unlike the others.
        run: what was asked for.
        results: what came out.
        answers: its network's, of all test images, int `[n]`.
    """

    name: str
    run: Run
    results: Results
    answers: np.ndarray


class Pair(NamedTuple):
    """Two runs' answers to the same images.

    Attributes:
        first, second: their names.
        both, first_only, second_only, neither: how many images were answered rightly by whom.
        p_value: how likely two equally good networks differ at least so much on these images, by McNemar's
            exact test (1947). It knows nothing of other seeds.
    """

    first: str
    second: str
    both: int
    first_only: int
    second_only: int
    neither: int
    p_value: float


def pairs(members: Sequence[Member], labels: Any) -> list[Pair]:
    """Each two of the runs."""
    from scipy.stats import binomtest

    found = []
    for one, two in combinations(members, 2):
        first, second = one.answers == np.asarray(labels), two.answers == np.asarray(labels)
        only = int((first & ~second).sum()), int((second & ~first).sum())
        p_value = float(binomtest(only[0], sum(only)).pvalue) if sum(only) else 1.0
        both, neither = int((first & second).sum()), int((~first & ~second).sum())
        found.append(Pair(one.name, two.name, both, *only, neither, p_value))
    return found


def differences(members: Sequence[Member]) -> list[dict[str, Any]]:
    """Each run's settings, those alone in which the runs differ."""
    settings = [_settings(member.run) for member in members]
    differing = [name for name in settings[0] if len({values[name] for values in settings}) > 1]
    return [{name: values[name] for name in differing} for values in settings]


def _settings(run: Run) -> dict[str, Any]:
    config = {field.name: getattr(run.config, field.name) for field in fields(run.config)}
    network = str(config.pop("model"))
    named = {name: str(config[name]) for name in ("optimizer", "schedule")}
    others = {"validation_fraction": run.validation_fraction, "seed": run.seed}
    return {"preset": run.preset, "network": network, **config, **named, **run.hyper._asdict(), **others}


def disputed(members: Sequence[Member], labels: Any) -> np.ndarray:
    """The images whose answers differ between runs, those that fewest got right first; int `[images]`."""
    answers = np.stack([member.answers for member in members])
    places = np.flatnonzero((answers != answers[0]).any(axis=0))
    right = (answers[:, places] == np.asarray(labels)[places]).sum(axis=0)
    return places[np.argsort(right, kind="stable")]


def page(members: Sequence[Member], data: "Dataset") -> str:
    """The comparison as HTML: a table, curves, and the images on which the runs disagree."""
    labels, classes = np.asarray(data.test.labels), data.classes
    places = disputed(members, labels)
    shown = places[:GALLERY]
    captions = [
        f"{classes[labels[i]]}:\n{', '.join(classes[member.answers[i]] for member in members)}" for i in shown
    ]
    histories = {member.name: member.results.history for member in members}
    with style():
        figures = {
            "loss": svg("Loss by epoch", plots.plot_histories(histories, "loss")),
            "accuracy": svg("Accuracy by epoch", plots.plot_histories(histories, "accuracy")),
            "gallery": svg(
                "Images on which the runs disagree",
                plots.plot_images(np.asarray(data.test.images)[shown], captions),
            )
            if len(shown)
            else None,
        }
    return render(
        "compare.html",
        members=members,
        settings=differences(members),
        pairs=pairs(members, labels),
        disputed=len(places),
        shown=len(shown),
        dataset=data.name,
        **figures,
    )
