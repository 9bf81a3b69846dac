"""A run directory: what was asked for, what came out, and the trained network.

config.json              the run: network, settings, seed, data set, versions
history.csv              a line per epoch
metrics.json             the scores, of which parameters they are, the confusion matrix, the ONNX proof
checkpoint.safetensors   the training state
model.onnx, model.json   the network for other runtimes, and what it says of itself
"""

import csv
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mnist_jax import directories, specs
from mnist_jax.directories import take, unwritable
from mnist_jax.errors import RunError, SpecError
from mnist_jax.files import parse_json, read_bytes, write_atomic
from mnist_jax.settings import check_one_of, is_label, shorten

if TYPE_CHECKING:
    from mnist_jax.loop import EpochRecord

FORMAT = 2
LARGEST_JSON = 2**26  # bytes
CONFIG, HISTORY, METRICS = directories.CONFIG, "history.csv", "metrics.json"
CHECKPOINT, MODEL = "checkpoint.safetensors", "model.onnx"


# The plain fields of a run, as JSON must have them.
TYPES: dict[str, type] = {
    "preset": str,
    "seed": int,
    "dataset": str,
    "dataset_sha256": str,
    "validation_fraction": float,
    "prng_impl": str,
}
PRNG_IMPLS = ("threefry2x32", "rbg", "unsafe_rbg")  # JAX's, under its own names


@dataclass(frozen=True)
class Run:
    """What `config.json` says: enough to repeat the run.

    Attributes:
        preset: the recipe it started from.
        config, hyper: the settings as they were used.
        seed: of the run's key.
        dataset: its name.
        dataset_sha256: its sum.
        validation_fraction: what was held out of the training set, at its end.
        prng_impl: of the run's keys, by JAX's name: another one draws other numbers from the same seed.
    """

    preset: str
    config: specs.Config
    hyper: specs.Hyper
    seed: int
    dataset: str
    dataset_sha256: str
    validation_fraction: float
    prng_impl: str


@contextmanager
def claim(folder: Path, run: Run, versions: Mapping[str, str]) -> Iterator[None]:
    """Makes a new run directory, this process's alone, and writes `config.json`.

    If the body fails before it has written anything else, nothing is left behind.

    Raises:
        RunError: there is something in it already, another run has it, or it cannot be written.
    """
    with take(folder):
        write_config(folder, run, versions)
        yield


def check_seed(seed: int) -> None:
    """Checks that a run can have that seed.

    Raises:
        SpecError: it is negative, or of more than 32 bits.
    """
    if not 0 <= seed < 2**32:
        raise SpecError(f"seed must be a whole number from 0 to {2**32 - 1}; got {seed}")


def write_config(folder: Path, run: Run, versions: Mapping[str, str]) -> None:
    """Writes `config.json`.

    Raises:
        RunError: it cannot be written.
    """
    values = {**to_json(run), "format": FORMAT, "versions": dict(versions)}
    try:
        write_atomic(folder / CONFIG, (json.dumps(values, indent=2) + "\n").encode())
    except OSError as error:
        raise unwritable(folder, error) from None


def read(folder: Path) -> Run:
    """What a run directory's `config.json` says.

    Raises:
        RunError: it is not a run directory, or its config is damaged or of another format.
    """
    values, name = read_json(folder, CONFIG), folder / CONFIG
    if type(values.get("format")) is not int or values["format"] != FORMAT:
        came = shorten(values.get("format"))
        raise RunError(f"{name} must be of format {FORMAT}; got {came}, of another version; train again")
    if missing := sorted({field.name for field in fields(Run)} - set(values)):
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
        hyper = specs.hyper_from_json(values["hyper"])
        config = specs.from_json(values["config"])
        check_seed(values["seed"])
        check_one_of("prng_impl", values["prng_impl"], PRNG_IMPLS)
    except SpecError as error:
        raise RunError(f"{name} is damaged: {error}") from None
    return Run(config=config, hyper=hyper, **{field: values[field] for field in TYPES})


def to_json(run: Run) -> dict[str, Any]:
    """The run as plain values, just as they come back from JSON."""
    plain = {**asdict(run), "config": specs.to_json(run.config), "hyper": run.hyper._asdict()}
    values: dict[str, Any] = json.loads(json.dumps(plain))
    return values


def write_metrics(folder: Path, metrics: Mapping[str, Any]) -> None:
    """Writes `metrics.json`."""
    write_atomic(folder / METRICS, (json.dumps(metrics, indent=2, allow_nan=False) + "\n").encode())


def write_history(folder: Path, history: Sequence["EpochRecord"]) -> None:
    """Writes `history.csv`: a header, and a line per epoch; what was not measured is empty."""
    from mnist_jax.loop import EpochRecord

    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, [field.name for field in fields(EpochRecord)], lineterminator="\n")
    writer.writeheader()
    writer.writerows(asdict(record) for record in history)
    write_atomic(folder / HISTORY, text.getvalue().encode())


def read_json(folder: Path, name: str) -> dict[str, Any]:
    """A JSON object from a run directory.

    Raises:
        RunError: it is not there, or is damaged.
    """
    try:
        values = parse_json(read_bytes(folder / name, LARGEST_JSON))
        json.dumps(values, ensure_ascii=False).encode()  # half a character cannot be written again
    except (FileNotFoundError, NotADirectoryError):
        reason = f"it has no {name}" if folder.is_dir() else "it is a file"
        reason = reason if folder.exists() else "there is none"
        raise RunError(f"{folder} must be a run directory, as `mnist-jax train` makes it; {reason}") from None
    except OSError as error:
        raise RunError(f"{folder / name} cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise RunError(f"{folder / name} is damaged: {error}") from None
    if not isinstance(values, dict):
        raise RunError(f"{folder / name} is damaged: it must hold a JSON object; got {type(values).__name__}")
    return values
