"""What a finished run has measured, read back from its directory."""

import csv
import io
import math
import shlex
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from mnist_jax.errors import RunError
from mnist_jax.files import read_bytes
from mnist_jax.networks import CLASSES
from mnist_jax.runs import CHECKPOINT, HISTORY, LARGEST_JSON, METRICS, read_json
from mnist_jax.settings import FLOAT32_MAX, is_label, shorten

if TYPE_CHECKING:
    import numpy as np

    from mnist_jax.loop import EpochRecord
    from mnist_jax.types import Params


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
    confusion: "np.ndarray"
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


def read_metrics(folder: Path, params: "Params") -> dict[str, Any]:
    """A finished run's `metrics.json`, once it is known to be of its network's parameters.

    A kill between two writes leaves the scores of an earlier state beside a new checkpoint.

    Raises:
        RunError: there is none, it is damaged, or it is of other parameters.
    """
    values = read_json(folder, METRICS)
    if values.get("parameters_sha256") != parameters_sha256(params):
        raise RunError(
            f"{folder / METRICS} must have the scores of the network in {CHECKPOINT}; it has another's, or "
            f"does not say whose; have it scored: mnist-jax train --resume {shlex.quote(str(folder))}"
        )
    return values


def parameters_sha256(params: "Params") -> str:
    """The sum of a network's parameters, as its ONNX file has it too."""
    from mnist_jax import arrays

    return arrays.digest(arrays.flatten(params))


def is_scored(folder: Path, epochs: int, params: "Params") -> bool:
    """Whether a run directory has scores, of its network with these parameters, after so many epochs."""
    try:
        return bool(read_metrics(folder, params).get("epochs") == epochs)
    except RunError:
        return False


def read(folder: Path, params: "Params") -> Results:
    """A finished run's results, which are those of its network's parameters.

    Raises:
        RunError: it is not finished, its scores are of other parameters, or a file is damaged; says which.
    """
    import numpy as np

    values = read_metrics(folder, params)
    try:
        test, onnx = values["test"], values["onnx"]
        confusion = np.array(test["confusion"])
        if confusion.shape != (CLASSES, CLASSES) or confusion.dtype != np.int64:
            raise ValueError("the confusion matrix must be ten rows of ten whole numbers")
        if confusion.min() < 0 or confusion.sum() != test["n"] or not test["n"]:
            raise ValueError(f"the confusion matrix must count {test['n']} images; got {confusion.sum()}")
        if type(onnx["passed"]) is not bool:
            raise ValueError(f"passed must be true or false; got {onnx['passed']!r}")
        for name in ("n", "noise", "disagreements"):
            if type(onnx[name]) is not int or onnx[name] < 0:
                raise ValueError(f"{name} must be a whole number of at least 0; got {onnx[name]!r}")
        largest = onnx["max_abs_difference"]
        found = Results(
            history=_history(folder, values["epochs"]),
            confusion=confusion,
            loss=figure(test["loss"]),
            seconds=figure(values["seconds"]),
            device=_text(values["device"]),
            versions={_text(name): _text(number) for name, number in dict(values["versions"]).items()},
            onnx=onnx | {"max_abs_difference": None if largest is None else figure(largest)},
        )
    except KeyError as error:
        raise RunError(f"{folder / METRICS} is damaged: it lacks {error}") from None
    except (TypeError, ValueError, OverflowError) as error:
        raise RunError(f"{folder / METRICS} is damaged: {error}") from None
    return found


def check_answers(folder: Path, results: Results, labels: Any, answers: Any) -> None:
    """Checks that a run's scores are those of its network, whose answers are given, int `[n]`.

    One in a thousand may differ: other devices and other batches round otherwise.

    Raises:
        RunError: they are another network's, or of other data.
    """
    import numpy as np

    counted = np.zeros((CLASSES, CLASSES), np.int64)
    np.add.at(counted, (np.asarray(labels), np.asarray(answers)), 1)
    otherwise = int(np.abs(counted - results.confusion).sum()) / 2
    if counted.sum() != results.n or otherwise > max(1, results.n / 1000):
        raise RunError(
            f"{folder / METRICS} must have the scores of the network in {CHECKPOINT}; "
            f"of {counted.sum():,} test images it counts {results.n:,}, {otherwise:g} with another answer"
        )


def _history(folder: Path, epochs: int) -> "tuple[EpochRecord, ...]":
    """What `history.csv` says."""
    from mnist_jax.loop import EpochRecord

    names = [field.name for field in fields(EpochRecord)]
    records = []
    try:
        with io.StringIO(read_bytes(folder / HISTORY, LARGEST_JSON).decode(), newline="") as file:
            for epoch, row in enumerate(csv.DictReader(file, strict=True), 1):
                if list(row) != names or row["epoch"] != str(epoch):
                    raise ValueError(
                        f"its line {epoch + 1} must be that of epoch {epoch}; got {list(row.values())}"
                    )
                values: dict[str, Any] = {name: float(row[name]) if row[name] else None for name in names}
                records.append(record_from(values | {"epoch": epoch}))
        if len(records) != epochs or not records:
            raise ValueError(f"it must have the {epochs} epochs of {METRICS}; got {len(records)}")
    except OSError as error:
        raise RunError(f"{folder / HISTORY} cannot be read: {error.strerror}") from None
    except (KeyError, TypeError, ValueError, csv.Error) as error:
        raise RunError(f"{folder / HISTORY} is damaged: {error}") from None
    return tuple(records)


def record_from(values: Any) -> "EpochRecord":
    """An epoch's record from plain values.

    Raises:
        TypeError, ValueError, OverflowError: they are not one's; a figure is none or out of its range.
    """
    from mnist_jax.loop import EpochRecord

    record = EpochRecord(**values)
    if type(record.epoch) is not int:
        raise TypeError(f"an epoch must be a whole number; got {shorten(record.epoch)}")
    for name, value in values.items():
        if value is not None or not name.startswith("validation"):
            number = figure(value)
            if "accuracy" in name and number > 1:
                raise ValueError(f"an accuracy must be at most 1; got {number:g}")
    return record


def figure(value: Any) -> float:
    """A number from 0 to the largest of float32."""
    number = float(value) if isinstance(value, int | float) and not isinstance(value, bool) else math.nan
    if not 0 <= number <= FLOAT32_MAX:
        raise ValueError(f"a figure must be a finite number of at least 0; got {shorten(value)}")
    return number


def _text(value: Any) -> str:
    if not is_label(value):
        raise TypeError(f"it must have a short printable text where it has {shorten(value)}")
    return value
