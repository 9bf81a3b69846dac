"""The run directory: configuration, results and trained network.

config.json              the configuration: network, hyperparameters, seed, data set, versions
history.csv              one row per epoch
metrics.json             scores, confusion matrix, ONNX parity, and the checksum of the scored parameters
checkpoint.safetensors   the training state
model.onnx, model.json   the network for other runtimes, and a copy of its metadata
"""

import csv
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mnist_jax._utils.atomic_io import parse_json, read_bytes, write_atomic
from mnist_jax.config import serialization, training
from mnist_jax.config.networks import LABELS, FlaxModel, are_labels
from mnist_jax.config.training import MONITORS
from mnist_jax.config.validation import check_choice, check_positive_int, is_label, shorten
from mnist_jax.data import registry
from mnist_jax.data.custom.source import DataSource, source_from_json
from mnist_jax.errors import RunError, SpecError
from mnist_jax.runs import locking
from mnist_jax.runs.locking import create_dir, unwritable

if TYPE_CHECKING:
    from mnist_jax.training.records import EpochRecord

FORMAT = 3
LARGEST_JSON = 2**26  # bytes
CONFIG, HISTORY, METRICS = locking.CONFIG, "history.csv", "metrics.json"
CHECKPOINT, MODEL = "checkpoint.safetensors", "model.onnx"


# The plain fields of a run, and their types in JSON.
TYPES: dict[str, type] = {
    "preset": str,
    "seed": int,
    "dataset": str,
    "dataset_sha256": str,
    "validation_fraction": float,
    "prng_impl": str,
}
PRNG_IMPLS = ("threefry2x32", "rbg", "unsafe_rbg")  # JAX's names


@dataclass(frozen=True)
class Run:
    """The content of `config.json`: everything needed to repeat the run.

    Attributes:
        preset: name of the preset that the configuration was derived from.
        config: the training configuration.
        hyperparams: the hyperparameters.
        seed: seed of the run's key.
        dataset: name of the data set.
        dataset_sha256: its checksum.
        validation_fraction: fraction of the training set held out at its end, for validation.
        prng_impl: JAX's name of the keys' PRNG implementation; another one draws other numbers.
        classes: names of the classes, for data that is none of the named data sets; otherwise None.
        data: where such data is, and how it is read; None for arrays of a Python program.
        early_stopping: patience of early stopping, in epochs; None for none.
        keep_best: whether the parameters of the best epoch are kept; None for not.
        monitor: what both monitor; None for the validation loss.
    """

    preset: str
    config: training.Config
    hyperparams: training.HyperParams
    seed: int
    dataset: str
    dataset_sha256: str
    validation_fraction: float
    prng_impl: str
    classes: tuple[str, ...] | None = None
    data: DataSource | None = None
    early_stopping: int | None = None
    keep_best: bool | None = None
    monitor: str | None = None

    @property
    def class_names(self) -> tuple[str, ...]:
        """The names of the classes."""
        return registry.classes(self.dataset) if self.classes is None else self.classes


# The fields that are left out of `config.json` where they are None.
OPTIONAL = {"classes", "data", "early_stopping", "keep_best", "monitor"}


@contextmanager
def create_run_dir(folder: Path, run: Run, versions: Mapping[str, str]) -> Iterator[None]:
    """Creates a run directory, locks it for this process, and writes `config.json`.

    If the body fails before it writes anything else, the directory is removed again.

    Raises:
        RunError: the directory is not empty, locked by another process, or not writable.
    """
    with create_dir(folder):
        write_config(folder, run, versions)
        yield


def check_seed(seed: int) -> None:
    """Checks a seed.

    Raises:
        SpecError: it is negative, or has more than 32 bits.
    """
    if not 0 <= seed < 2**32:
        raise SpecError(f"seed must be a whole number from 0 to {2**32 - 1}; got {seed}")


def write_config(folder: Path, run: Run, versions: Mapping[str, str]) -> None:
    """Writes `config.json`.

    Raises:
        RunError: the directory is not writable.
    """
    values = {**to_json(run), "format": FORMAT, "versions": dict(versions)}
    try:
        write_atomic(folder / CONFIG, (json.dumps(values, indent=2) + "\n").encode())
    except OSError as error:
        raise unwritable(folder, error) from None


def read(folder: Path, file_name: str = CONFIG) -> Run:
    """Reads the `config.json` of a run directory, or the same under another name.

    Raises:
        RunError: it is not a run directory, or its config is damaged or has another format version.
    """
    values, name = read_json(folder, file_name), folder / file_name
    if type(values.get("format")) is not int or values["format"] != FORMAT:
        version = shorten(values.get("format"))
        raise RunError(
            f"{name} must have format {FORMAT}; got {version}, of another version of mnist-jax; train again"
        )
    return from_json(values, name)


def from_json(values: dict[str, Any], name: Path) -> Run:
    """The inverse of `to_json`; `name` is the file of the values, for error messages.

    Raises:
        RunError: a field is missing or damaged.
    """
    if missing := sorted({field.name for field in fields(Run)} - set(values) - OPTIONAL):
        raise RunError(f"{name} is damaged: it lacks {', '.join(missing)}")
    for field, kind in TYPES.items():
        if not isinstance(values[field], kind) or isinstance(values[field], bool):
            raise RunError(
                f"{name} is damaged: {field} must be {kind.__name__}; got {shorten(values[field])}"
            )
        if kind is str and not is_label(values[field]):
            raise RunError(
                f"{name} is damaged: {field} must be a short printable text; got {shorten(values[field])}"
            )
    try:
        hyperparams = serialization.hyperparams_from_json(values["hyperparams"])
        config = serialization.from_json(values["config"])
        check_seed(values["seed"])
        check_choice("prng_impl", values["prng_impl"], PRNG_IMPLS)
        classes = None if "classes" not in values else _classes(values["classes"], config.model.num_classes)
        data = None if "data" not in values else source_from_json(values["data"])
    except SpecError as error:
        raise RunError(f"{name} is damaged: {error}") from None
    plain = {field: values[field] for field in TYPES} | _selection(name, values)
    return Run(config=config, hyperparams=hyperparams, classes=classes, data=data, **plain)


def _selection(name: Path, values: dict[str, Any]) -> dict[str, Any]:
    """The settings of early stopping and of the best epoch."""
    found: dict[str, Any] = {
        field: values[field] for field in ("early_stopping", "keep_best", "monitor") if field in values
    }
    try:
        check_selection(**found)
    except SpecError as error:
        raise RunError(f"{name} is damaged: {error}") from None
    return found


def check_selection(
    early_stopping: Any = None, keep_best: Any = None, monitor: Any = None, validation_fraction: float = 0.1
) -> None:
    """Checks the settings of early stopping and of the best epoch.

    Raises:
        SpecError: one is invalid, monitors nothing, or needs a validation set that there is not.
    """
    if early_stopping is not None:
        check_positive_int("early stopping", early_stopping)
    if keep_best not in (None, True):
        raise SpecError(f"keep_best must be true or left out; got {shorten(keep_best)}")
    if monitor is not None:
        check_choice("monitor", monitor, MONITORS)
    if early_stopping is None and not keep_best:
        if monitor is not None:
            raise SpecError(f"monitor needs early stopping, or the best epoch kept; got {monitor} alone")
        return
    if not validation_fraction and (monitor or MONITORS[0]).startswith("validation"):
        raise SpecError(
            f"{monitor or MONITORS[0]} can be monitored with a validation set only; got a validation "
            "fraction of 0; give one, or --monitor loss"
        )


def _classes(names: Any, count: int) -> tuple[str, ...]:
    if not are_labels(names) or len(names) != count:
        raise SpecError(f"classes must be {count} {LABELS}; got {shorten(names)}")
    return tuple(names)


def to_json(run: Run) -> dict[str, Any]:
    """Converts the run to plain values, exactly as JSON returns them."""
    plain = {
        **asdict(run),
        "config": serialization.to_json(run.config),
        "hyperparams": run.hyperparams._asdict(),
    }
    given = {name: value for name, value in plain.items() if name not in OPTIONAL or value is not None}
    values: dict[str, Any] = json.loads(json.dumps(given))
    return values


def write_metrics(folder: Path, metrics: Mapping[str, Any]) -> None:
    """Writes `metrics.json`."""
    write_atomic(folder / METRICS, (json.dumps(metrics, indent=2, allow_nan=False) + "\n").encode())


def write_history(folder: Path, history: Sequence["EpochRecord"]) -> None:
    """Writes `history.csv`: a header, and one row per epoch; missing values are empty."""
    from mnist_jax.training.records import EpochRecord

    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, [field.name for field in fields(EpochRecord)], lineterminator="\n")
    writer.writeheader()
    writer.writerows(asdict(record) for record in history)
    write_atomic(folder / HISTORY, text.getvalue().encode())


def read_json(folder: Path, name: str) -> dict[str, Any]:
    """Reads a JSON object from a run directory.

    Raises:
        RunError: the file is missing or damaged.
    """
    try:
        values = parse_json(read_bytes(folder / name, LARGEST_JSON))
        json.dumps(values, ensure_ascii=False).encode()  # lone surrogates cannot be encoded
    except (FileNotFoundError, NotADirectoryError):
        reason = f"it has no {name}" if folder.is_dir() else "it is a file"
        reason = reason if folder.exists() else "it does not exist"
        raise RunError(f"{folder} must be a run directory, written by `mnist-jax train`; {reason}") from None
    except OSError as error:
        raise RunError(f"{folder / name} cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise RunError(f"{folder / name} is damaged: {error}") from None
    if not isinstance(values, dict):
        raise RunError(f"{folder / name} is damaged: it must hold a JSON object; got {type(values).__name__}")
    return values


def check_exported(folder: Path, run: Run) -> None:
    """Checks that a run can have an ONNX file.

    Raises:
        RunError: its network is a Flax module, which is exported apart.
    """
    if isinstance(run.config.model, FlaxModel):
        raise RunError(
            f"{folder} has no {MODEL}: its network is the Flax module {run.config.model.name}; export it "
            "from Python: mnist_onnx.export_flax"
        )
