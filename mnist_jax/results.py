"""What a finished run has measured, read back from its directory."""

import csv
import math
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from mnist_jax.errors import RunError
from mnist_jax.networks import CLASSES
from mnist_jax.runs import HISTORY, METRICS, read_metrics

if TYPE_CHECKING:
    from mnist_jax.loop import EpochRecord


class Results(NamedTuple):
    """What came out of a run.

    Attributes:
        history: a record per epoch.
        confusion: on the test set, int64 `[10, 10]`, row true class, column answer.
        loss: on the test set, in nats.
        seconds: of the whole run.
        device: what it ran on.
        versions: of Python and of the packages.
        onnx: what the proof has found; see `mnist_onnx.Parity`.
    """

    history: "tuple[EpochRecord, ...]"
    confusion: np.ndarray
    loss: float
    seconds: float
    device: str
    versions: dict[str, str]
    onnx: dict[str, Any]

    @property
    def n(self) -> int:
        """How many test images there were."""
        return int(self.confusion.sum())

    @property
    def right(self) -> int:
        """How many of them were answered rightly."""
        return int(self.confusion.trace())

    @property
    def accuracy(self) -> float:
        """The share of right answers on the test set."""
        return self.right / self.n

    @property
    def interval(self) -> tuple[float, float]:
        """Where that share lies with 95 % confidence, for images of this kind, by Wilson's score interval."""
        from scipy.stats import binomtest

        low, high = binomtest(self.right, self.n).proportion_ci(method="wilson")
        return float(low), float(high)


def read(folder: Path) -> Results:
    """A finished run's results.

    Raises:
        RunError: it is not finished, or a file is damaged; says which.
    """
    values = read_metrics(folder)
    try:
        test, onnx = values["test"], values["onnx"]
        confusion = np.array(test["confusion"])
        if confusion.shape != (CLASSES, CLASSES) or confusion.dtype != np.int64:
            raise ValueError("the confusion matrix must be ten rows of ten whole numbers")
        if confusion.min() < 0 or confusion.sum() != test["n"] or not test["n"]:
            raise ValueError(f"the confusion matrix must count {test['n']} images; got {confusion.sum()}")
        if not {"passed", "n", "noise", "disagreements", "max_abs_difference"} <= set(onnx):
            raise ValueError("the ONNX proof lacks a figure")
        found = Results(
            history=_history(folder),
            confusion=confusion,
            loss=_finite(test["loss"]),
            seconds=_finite(values["seconds"]),
            device=str(values["device"]),
            versions={str(name): str(number) for name, number in dict(values["versions"]).items()},
            onnx=dict(onnx),
        )
    except KeyError as error:
        raise RunError(f"{folder / METRICS} is damaged: it lacks {error}") from None
    except (TypeError, ValueError) as error:
        raise RunError(f"{folder / METRICS} is damaged: {error}") from None
    return found


def _history(folder: Path) -> "tuple[EpochRecord, ...]":
    """What `history.csv` says."""
    from mnist_jax.loop import EpochRecord

    names = [field.name for field in fields(EpochRecord)]
    try:
        with (folder / HISTORY).open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file, strict=True))
        records = []
        for row in rows:
            values: dict[str, Any] = {name: _finite(row[name]) if row[name] else None for name in names}
            records.append(EpochRecord(**(values | {"epoch": int(row["epoch"])})))
        if not records or any(None in (record.loss, record.accuracy) for record in records):
            raise ValueError("it must hold a loss and an accuracy for each epoch")
    except OSError as error:
        raise RunError(f"{folder / HISTORY} cannot be read: {error.strerror}") from None
    except (KeyError, TypeError, ValueError, csv.Error) as error:
        raise RunError(f"{folder / HISTORY} is damaged: {error}") from None
    return tuple(records)


def _finite(value: Any) -> float:
    number = float(value)
    if not math.isfinite(number):
        raise ValueError(f"a figure must be a finite number; got {value}")
    return number
