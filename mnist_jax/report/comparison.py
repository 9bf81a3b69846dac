"""Comparison of runs: settings, curves, disagreements, and statistical significance."""

from collections.abc import Sequence
from dataclasses import fields
from itertools import combinations
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from mnist_jax.report import plots
from mnist_jax.report.html import render, style, svg
from mnist_jax.runs.directory import Run
from mnist_jax.runs.results import Results

if TYPE_CHECKING:
    from mnist_jax.data.datasets import Dataset

GALLERY = 40


class Member(NamedTuple):
    """One of the compared runs.

    Attributes:
        name: a unique name.
        run: the run's configuration.
        results: its results.
        answers: predicted classes of all test images, int `[n]`.
    """

    name: str
    run: Run
    results: Results
    answers: np.ndarray


class Pair(NamedTuple):
    """Two runs' predictions for the same images.

    Attributes:
        first: name of the first run.
        second: name of the second run.
        both: number of images that both classify correctly.
        first_only: number of images that only the first classifies correctly.
        second_only: number of images that only the second classifies correctly.
        neither: number of images that neither classifies correctly.
        p_value: p-value of McNemar's exact test (1947); it does not account for the variation between seeds.
    """

    first: str
    second: str
    both: int
    first_only: int
    second_only: int
    neither: int
    p_value: float


def pairs(members: Sequence[Member], labels: Any) -> list[Pair]:
    """Compares every pair of runs, given the true classes of the test images, int `[n]`."""
    from scipy.stats import binomtest

    result = []
    for one, two in combinations(members, 2):
        first, second = (member.answers == np.asarray(labels) for member in (one, two))
        only = int((first & ~second).sum()), int((second & ~first).sum())
        p_value = float(binomtest(only[0], sum(only)).pvalue) if sum(only) else 1.0
        both, neither = int((first & second).sum()), int((~first & ~second).sum())
        result.append(Pair(one.name, two.name, both, *only, neither, p_value))
    return result


def differences(members: Sequence[Member]) -> list[dict[str, Any]]:
    """Returns each run's values of the settings in which the runs differ."""
    settings = [_settings(member.run) for member in members]
    differing = [name for name in settings[0] if len({values[name] for values in settings}) > 1]
    return [{name: values[name] for name in differing} for values in settings]


def _settings(run: Run) -> dict[str, Any]:
    config = {field.name: getattr(run.config, field.name) for field in fields(run.config)}
    network = str(config.pop("model"))
    named = {name: str(config[name]) for name in ("optimizer", "schedule")}
    others = {"validation_fraction": run.validation_fraction, "seed": run.seed}
    return {
        "preset": run.preset,
        "network": network,
        **config,
        **named,
        **run.hyperparams._asdict(),
        **others,
    }


def disputed(members: Sequence[Member], labels: Any) -> np.ndarray:
    """Returns the indices of images on which runs disagree, int `[images]`, hardest images first."""
    answers = np.stack([member.answers for member in members])
    indices = np.flatnonzero((answers != answers[0]).any(axis=0))
    correct = (answers[:, indices] == np.asarray(labels)[indices]).sum(axis=0)
    return indices[np.argsort(correct, kind="stable")]


def page(members: Sequence[Member], data: "Dataset") -> str:
    """Renders the comparison as HTML.

    Args:
        members: the runs to compare.
        data: their data set.
    """
    labels, classes = np.asarray(data.test.labels), data.classes
    indices = disputed(members, labels)
    shown = indices[:GALLERY]
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
        disputed=len(indices),
        shown=len(shown),
        dataset=data.name,
        **figures,
    )
