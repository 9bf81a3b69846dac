"""Callbacks that write a run's history: as CSV, and for TensorBoard."""

import csv
import io
from dataclasses import asdict, fields
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING

from mnist_jax._utils.atomic_io import write_atomic
from mnist_jax.errors import NotInstalledError, SpecError
from mnist_jax.training.records import EpochRecord

if TYPE_CHECKING:
    from mnist_jax.training.state import TrainState

COLUMNS = [field.name for field in fields(EpochRecord)]


class CSVLogger:
    """Writes a CSV file with a row for each epoch; a resumed run continues it.

    Args:
        path: the file. Rows of earlier epochs in it are kept, those of the same and later ones replaced.

    Raises:
        SpecError: its folder does not exist.

    Examples:
        >>> import pathlib, tempfile
        >>> import jax
        >>> from mnist_jax import MLP, Config, callbacks, fit, load
        >>> config = Config(MLP((8,)), epochs=2)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     log = callbacks.CSVLogger(f"{folder}/history.csv")
        ...     _ = fit(config, load("digits").train[:64], key=jax.random.key(0), callback=log)
        ...     lines = pathlib.Path(folder, "history.csv").read_text().splitlines()
        >>> lines[0].split(",")[:3], len(lines)
        (['epoch', 'loss', 'accuracy'], 3)
    """

    def __init__(self, path: str | PathLike[str]) -> None:
        self._path = Path(path)
        if not self._path.absolute().parent.is_dir():
            raise SpecError(f"CSVLogger must name a file in an existing folder; got {path}")

    def __call__(self, record: EpochRecord, state: "TrainState") -> None:
        """Writes the row of an epoch."""
        rows = [row for row in self._rows() if int(row["epoch"]) < record.epoch]
        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows([*rows, asdict(record)])
        write_atomic(self._path, text.getvalue().encode())

    def _rows(self) -> list[dict[str, str]]:
        """The rows of an earlier run; none where the file is another one."""
        try:
            rows = list(csv.DictReader(io.StringIO(self._path.read_text(), newline="")))
        except (OSError, UnicodeDecodeError, csv.Error):
            return []
        return [row for row in rows if list(row) == COLUMNS and row["epoch"].isdecimal()]


class TensorBoard:
    """Writes an event file for TensorBoard; needs the extra `tensorboard`.

    Args:
        folder: the folder of event files; each run belongs in one of its own.

    Raises:
        NotInstalledError: TensorBoard is not installed.
    """

    def __init__(self, folder: str | PathLike[str]) -> None:
        try:
            from tensorboard.summary import Writer
        except ModuleNotFoundError as error:
            raise NotInstalledError("callbacks.TensorBoard", error) from None
        self._writer = Writer(str(folder))

    def __call__(self, record: EpochRecord, state: "TrainState") -> None:
        """Writes the scalars of an epoch."""
        for name, value in asdict(record).items():
            if name != "epoch" and value is not None:
                self._writer.add_scalar(name, value, record.epoch)
        self._writer.flush()
