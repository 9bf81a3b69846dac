"""Search for a data set's files in the user's data folder."""

import os
import re
from collections.abc import Mapping
from pathlib import Path

from mnist_jax.data.registry import SOURCES
from mnist_jax.errors import DatasetError

KERAS = "mnist.npz"
TORCHVISION = {"mnist": "MNIST", "fashion_mnist": "FashionMNIST", "kmnist": "KMNIST"}
SIMILAR = re.compile(r"(train|t10k|test)[-_. ]*(images|labels).*(idx|ubyte)", re.IGNORECASE)
SIMILAR_TO_KERAS = re.compile(r"mnist(\W*(\d+|copy)\W*)?\.npz", re.IGNORECASE)
MAX_NAMES = 8  # file names in an error message


def named(data_dir: str | os.PathLike[str] | None) -> Path | None:
    """The data folder from the caller or from `MNIST_JAX_DATA_DIR`, or None.

    Args:
        data_dir: the caller's folder, or None for the environment variable.

    Returns:
        The folder, with `~` expanded, or None if neither is set.

    Raises:
        DatasetError: if it is not an existing directory.
    """
    path = data_dir if data_dir is not None else os.environ.get("MNIST_JAX_DATA_DIR") or None
    if path is None:
        return None
    if not isinstance(path, str | os.PathLike) or not os.fspath(path):
        raise DatasetError(f"the data folder must be a directory's path; got {path!r}")
    try:
        folder = Path(path).expanduser()
    except RuntimeError as error:  # for an unknown user
        raise DatasetError(f"the data folder must be a directory; {path}: {error}") from None
    if not folder.is_dir():
        problem = "it is a file" if folder.is_file() else "it does not exist"
        raise DatasetError(
            f"the data folder must be a directory with a data set's files; {folder}: {problem}"
        )
    return folder


def find(name: str, folder: Path) -> list[Path] | None:
    """Find the files of a data set by their names; their content is verified when they are read.

    Args:
        name: a key of `SOURCES`.
        folder: the data folder.

    Returns:
        The paths of the four files, or of Keras's single file; None if there is nothing similar.

    Raises:
        DatasetError: if only some of the files, or similar names, are there; says what is missing.
    """
    try:
        candidates = [candidate for candidate in _candidates(name, folder) if candidate.is_dir()]
        for candidate in candidates:
            if len(paths := _official_files(name, candidate)) == len(SOURCES[name].files):
                _check_folder_name(name, candidate, paths)
                return list(paths.values())
            if name == "mnist" and (candidate / KERAS).is_file():
                return [candidate / KERAS]
        similar = [path for each in candidates for path in sorted(each.iterdir()) if _is_similar(name, path)]
    except OSError as error:
        raise DatasetError(f"{error.filename or folder} cannot be read: {error.strerror or error}") from None
    if not similar:
        return None
    parent = similar[0].parent
    paths = _official_files(name, parent)
    missing = ", ".join(f"{file.name}.gz" for file in SOURCES[name].files if file.name not in paths)
    names = [
        path.name + " (a broken link)" * (not path.exists()) for path in similar if path.parent == parent
    ]
    raise DatasetError(
        f"{parent} must hold all four files of {name}, gzipped or not{f', or {KERAS}' * (name == 'mnist')}; "
        f"{missing} not found; it holds {', '.join(names[:MAX_NAMES])}{', ...' * (len(names) > MAX_NAMES)}"
    )


def _candidates(name: str, folder: Path) -> list[Path]:
    """The folders to search: subfolders named after the data set, here or in torchvision, then `folder`."""
    torchvision = folder / TORCHVISION[name]
    return [folder / name, torchvision / "raw", torchvision, folder / "raw", folder]


def _official_files(name: str, folder: Path) -> dict[str, Path]:
    """The paths in `folder` of those of the four files that exist, by official name."""
    paths = {}
    for file in SOURCES[name].files:
        names = [file.name, file.name.replace("-idx", ".idx")]  # some distributions write a dot for the dash
        zipped = [f"{each}.gz" for each in names]
        # Only the checksums of the gzipped files are always known, so prefer those where the other is not.
        for each in (*names, *zipped) if file.raw_sha256 else (*zipped, *names):
            if (folder / each).is_file():
                paths[file.name] = folder / each
                break
    return paths


def _check_folder_name(name: str, folder: Path, paths: Mapping[str, Path]) -> None:
    """Check that files without a known checksum are not in a folder named after another data set.

    Raises:
        DatasetError: if they are.
    """
    others = {*TORCHVISION, *TORCHVISION.values()} - {name, TORCHVISION[name]}
    named_after = others & {folder.name, folder.parent.name if folder.name == "raw" else ""}
    for file in SOURCES[name].files:
        if named_after and file.raw_sha256 is None and paths[file.name].suffix != ".gz":
            raise DatasetError(
                f"{paths[file.name]} must be gzipped, so that its checksum identifies {name}, because its "
                f"folder is named {named_after.pop()}; put {name} into a folder of its own"
            )


def _is_similar(name: str, path: Path) -> bool:
    """Whether a file name resembles that of one of the four files or of Keras's file."""
    match = SIMILAR.match(path.name) or (name == "mnist" and SIMILAR_TO_KERAS.match(path.name))
    return bool(match) and not path.is_dir()
