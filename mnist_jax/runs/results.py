"""Results of a finished run, read and validated from its directory."""

import csv
import io
import math
import shlex
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from mnist_jax._utils.atomic_io import read_bytes
from mnist_jax.config.networks import FlaxModel, Trainable
from mnist_jax.config.validation import FLOAT32_MAX, is_label, shorten
from mnist_jax.errors import RunError
from mnist_jax.runs.directory import CHECKPOINT, HISTORY, LARGEST_JSON, METRICS, read_json

if TYPE_CHECKING:
    import numpy as np

    from mnist_jax.training.records import EpochRecord
    from mnist_jax.types import Params


class Results(NamedTuple):
    """The results of a run.

    Attributes:
        history: one record per epoch.
        confusion: confusion matrix on the test set, int64 `[classes, classes]`: row true class, column
            prediction.
        loss: mean loss on the test set, in nats.
        seconds: wall time of the whole run.
        device: description of the device.
        versions: versions of Python and of the packages.
        onnx: result of the parity check; see `mnist_onnx.Parity`. None for a network that is not exported.
    """

    history: "tuple[EpochRecord, ...]"
    confusion: "np.ndarray"
    loss: float
    seconds: float
    device: str
    versions: dict[str, str]
    onnx: dict[str, Any] | None

    @property
    def n(self) -> int:
        """The number of test images."""
        return int(self.confusion.sum())

    @property
    def right(self) -> int:
        """The number of correct predictions on the test set."""
        return int(self.confusion.trace())

    @property
    def accuracy(self) -> float:
        """The accuracy on the test set, 0 to 1."""
        return self.right / self.n

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % confidence interval of the accuracy (Wilson's score interval)."""
        from scipy.stats import binomtest

        low, high = binomtest(self.right, self.n).proportion_ci(method="wilson")
        return float(low), float(high)


def read_metrics(folder: Path, params: "Params") -> dict[str, Any]:
    """Reads a finished run's `metrics.json`, and checks that it belongs to the given parameters.

    A process killed between two writes leaves the scores of an earlier state beside a new checkpoint.

    Raises:
        RunError: the file is missing or damaged, or belongs to other parameters.
    """
    values = read_json(folder, METRICS)
    if values.get("parameters_sha256") != parameters_sha256(params):
        raise RunError(
            f"{folder / METRICS} must have the scores of the network in {CHECKPOINT}; it has those of "
            f"another one, or no checksum; to score it: mnist-jax train --resume {shlex.quote(str(folder))}"
        )
    return values


def parameters_sha256(params: "Params") -> str:
    """Returns the checksum of a network's parameters, which its ONNX file holds, too."""
    from mnist_jax._utils import param_dicts

    return param_dicts.digest(param_dicts.flatten(params))


def is_scored(folder: Path, epochs: int, params: "Params") -> bool:
    """Whether a run directory has scores of these parameters after `epochs` epochs."""
    try:
        return bool(read_metrics(folder, params).get("epochs") == epochs)
    except RunError:
        return False


def read(folder: Path, params: "Params", spec: Trainable) -> Results:
    """Reads a finished run's results.

    Args:
        folder: the run directory.
        params: the parameters that the results must belong to.
        spec: the run's network.

    Raises:
        RunError: the run is not finished, its scores belong to other parameters, or a file is damaged.
    """
    import numpy as np

    values, num_classes = read_metrics(folder, params), spec.num_classes
    try:
        test, onnx = values["test"], values["onnx"]
        confusion = np.array(test["confusion"])
        if confusion.shape != (num_classes, num_classes) or confusion.dtype != np.int64:
            raise ValueError(f"the confusion matrix must be {num_classes} rows of as many whole numbers")
        if confusion.min() < 0 or confusion.sum() != test["n"] or not test["n"]:
            raise ValueError(f"the confusion matrix must count {test['n']} images; got {confusion.sum()}")
        results = Results(
            history=_history(folder, values["epochs"]),
            confusion=confusion,
            loss=figure(test["loss"]),
            seconds=figure(values["seconds"]),
            device=_text(values["device"]),
            versions={_text(name): _text(number) for name, number in dict(values["versions"]).items()},
            onnx=None if onnx is None and isinstance(spec, FlaxModel) else _parity(onnx),
        )
    except KeyError as error:
        raise RunError(f"{folder / METRICS} is damaged: it lacks {error}") from None
    except (TypeError, ValueError, OverflowError) as error:
        raise RunError(f"{folder / METRICS} is damaged: {error}") from None
    return results


def _parity(values: Any) -> dict[str, Any]:
    """The checked result of a parity check."""
    if type(values["passed"]) is not bool:
        raise ValueError(f"passed must be true or false; got {values['passed']!r}")
    for name in ("n", "noise", "disagreements"):
        if type(values[name]) is not int or values[name] < 0:
            raise ValueError(f"{name} must be a whole number of at least 0; got {values[name]!r}")
    largest = values["max_abs_difference"]
    checked: dict[str, Any] = values | {"max_abs_difference": None if largest is None else figure(largest)}
    return checked


def check_answers(folder: Path, results: Results, labels: Any, answers: Any) -> None:
    """Checks a run's scores against its network's predictions.

    One prediction in a thousand may differ, since other devices and batch sizes round differently.

    Args:
        folder: the run directory, for the message.
        results: the run's results.
        labels: true classes of the test images, int `[n]`.
        answers: predicted classes of the test images, int `[n]`.

    Raises:
        RunError: the scores belong to another network or to other data.
    """
    import numpy as np

    counted = np.zeros_like(results.confusion)
    np.add.at(counted, (np.asarray(labels), np.asarray(answers)), 1)
    differing = int(np.abs(counted - results.confusion).sum()) / 2
    if counted.sum() != results.n or differing > max(1, results.n / 1000):
        raise RunError(
            f"{folder / METRICS} must have the scores of the network in {CHECKPOINT}; "
            f"of {counted.sum():,} test images it counts {results.n:,}, {differing:g} with another prediction"
        )


def _history(folder: Path, epochs: int) -> "tuple[EpochRecord, ...]":
    """Reads `history.csv`."""
    from mnist_jax.training.records import EpochRecord

    names = [field.name for field in fields(EpochRecord)]
    records = []
    try:
        with io.StringIO(read_bytes(folder / HISTORY, LARGEST_JSON).decode(), newline="") as file:
            for epoch, row in enumerate(csv.DictReader(file, strict=True), 1):
                if list(row) != names or row["epoch"] != str(epoch):
                    raise ValueError(
                        f"line {epoch + 1} must be that of epoch {epoch}; got {list(row.values())}"
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
    """Creates an epoch's record from plain values.

    Raises:
        TypeError, ValueError, OverflowError: a field is missing or unknown, not a number, or out of range.
    """
    from mnist_jax.training.records import EpochRecord

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
    """Returns a value as a float, after a check that it is in float32's range and not negative."""
    number = float(value) if isinstance(value, int | float) and not isinstance(value, bool) else math.nan
    if not 0 <= number <= FLOAT32_MAX:
        raise ValueError(f"a figure must be a finite number of at least 0; got {shorten(value)}")
    return number


def _text(value: Any) -> str:
    if not is_label(value):
        raise TypeError(f"a text must be short and printable; got {shorten(value)}")
    return value
