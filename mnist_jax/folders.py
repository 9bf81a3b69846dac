"""The user's folder with a data set: which it is, and what in it is the data set."""

import os
import re
from collections.abc import Mapping
from pathlib import Path

from mnist_jax.errors import DatasetError
from mnist_jax.sources import SOURCES

KERAS = "mnist.npz"
TORCHVISION = {"mnist": "MNIST", "fashion_mnist": "FashionMNIST", "kmnist": "KMNIST"}
NEAR = re.compile(r"(train|t10k|test)[-_. ]*(images|labels).*(idx|ubyte)", re.IGNORECASE)
NEAR_KERAS = re.compile(r"mnist(\W*(\d+|copy)\W*)?\.npz", re.IGNORECASE)
MOST = 8  # names in a message


def named(data_dir: str | os.PathLike[str] | None) -> Path | None:
    """The folder that the caller or the environment names, if any.

    Raises:
        DatasetError: it is no directory.
    """
    given = data_dir if data_dir is not None else os.environ.get("MNIST_JAX_DATA_DIR") or None
    if given is None:
        return None
    if not isinstance(given, str | os.PathLike) or not os.fspath(given):
        raise DatasetError(f"the data folder must be a directory's path; got {given!r}")
    try:
        folder = Path(given).expanduser()
    except RuntimeError as error:  # of a user that does not exist
        raise DatasetError(f"the data folder must be a directory; {given}: {error}") from None
    if not folder.is_dir():
        came = "it is a file" if folder.is_file() else "it does not exist"
        raise DatasetError(f"the data folder must be a directory with MNIST's four files; {folder}: {came}")
    return folder


def find(name: str, folder: Path) -> list[Path] | None:
    """The four files of a data set, or Keras's one that holds all four; None if nothing like them is there.

    Names only say where to look. What a file is, the sum of its content decides, where it is read.

    Raises:
        DatasetError: there is something like them, and not all; says what is there and what is missing.
    """
    try:
        places = [place for place in _places(name, folder) if place.is_dir()]
        for place in places:
            if len(found := _four(name, place)) == len(SOURCES[name].files):
                _check_known(name, place, found)
                return list(found.values())
            if name == "mnist" and (place / KERAS).is_file():
                return [place / KERAS]
        near = [path for place in places for path in sorted(place.iterdir()) if _resembles(name, path)]
    except OSError as error:
        raise DatasetError(f"{error.filename or folder} cannot be read: {error.strerror or error}") from None
    if not near:
        return None
    place = near[0].parent
    found = _four(name, place)
    missing = ", ".join(f"{file.name}.gz" for file in SOURCES[name].files if file.name not in found)
    there = [path.name + " (a broken link)" * (not path.exists()) for path in near if path.parent == place]
    raise DatasetError(
        f"{place} must hold all four files of {name}, gzipped or not{f', or {KERAS}' * (name == 'mnist')}; "
        f"{missing} not found; it holds {', '.join(there[:MOST])}{', ...' * (len(there) > MOST)}"
    )


def _places(name: str, folder: Path) -> list[Path]:
    """Where to look: in a folder of the data set's name, ours or torchvision's, then in the folder itself."""
    theirs = folder / TORCHVISION[name]
    return [folder / name, theirs / "raw", theirs, folder / "raw", folder]


def _four(name: str, place: Path) -> dict[str, Path]:
    """Those of the four files that a folder has, by their official names; some write a dot for a dash."""
    found = {}
    for file in SOURCES[name].files:
        names = [file.name, file.name.replace("-idx", ".idx")]
        zipped = [f"{each}.gz" for each in names]
        # The sums of all gzipped files are known: these go first where that of the unzipped one is not.
        for each in (*names, *zipped) if file.raw_sha256 else (*zipped, *names):
            if (place / each).is_file():
                found[file.name] = place / each
                break
    return found


def _check_known(name: str, place: Path, found: Mapping[str, Path]) -> None:
    """Checks that a folder is not another data set's, where no sum would tell.

    Raises:
        DatasetError: it is named after another.
    """
    others = {*TORCHVISION, *TORCHVISION.values()} - {name, TORCHVISION[name]}
    named_after = others & {place.name, place.parent.name if place.name == "raw" else ""}
    for file in SOURCES[name].files:
        if named_after and file.raw_sha256 is None and found[file.name].suffix != ".gz":
            raise DatasetError(
                f"{found[file.name]} must be gzipped, to be known for {name}'s, since its folder is named "
                f"{named_after.pop()}; put {name} into a folder of its own"
            )


def _resembles(name: str, path: Path) -> bool:
    """Whether a file is one that somebody may take for one of the four, or for all in one."""
    like = NEAR.match(path.name) or (name == "mnist" and NEAR_KERAS.match(path.name))
    return bool(like) and not path.is_dir()
