"""`mnist-jax predict`."""

import io
import math
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from mnist_jax._utils.text import percent, printable
from mnist_jax.cli import console, options
from mnist_jax.errors import ImageError
from mnist_jax.runs import directory

if TYPE_CHECKING:
    import numpy as np

LARGEST_STDIN = 2**30  # bytes; 1.3 million images
SUFFIXES = {".png", ".jpg", ".jpeg", ".webp", ".bmp"}


class Answer(NamedTuple):
    """The result for one picture: a prediction or an error.

    Attributes:
        name: file name, or index in stdin.
        prepared: the network's input, uint8 `[28, 28]`; None after an error.
        probabilities: one per class; empty after an error.
        label: the predicted class; empty after an error.
        error: why there is no prediction; empty otherwise.
    """

    name: str
    prepared: "np.ndarray | None"
    probabilities: list[float]
    label: str
    error: str


def predict(
    model: options.RunOrFile,
    pictures: Annotated[
        list[Path] | None,
        typer.Argument(metavar="IMAGE...", help="PNG, JPEG, WebP or BMP files, or folders of them."),
    ] = None,
    stdin: Annotated[
        bool, typer.Option("--stdin", help="Read 28x28 uint8 arrays, raw or .npy, white on black.")
    ] = False,
    show: Annotated[bool, typer.Option("--show", help="Print the network's 28x28 input.")] = False,
    save_prepared: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write the network's 28x28 input as PNG.")
    ] = None,
    input_range: Annotated[
        str | None,
        typer.Option(
            metavar="LOW..HIGH",
            help="For other ONNX files: input values of black and white, such as 0..1.",
        ),
    ] = None,
    csv: Annotated[bool, typer.Option("--csv", help="Print CSV, one line per picture.")] = False,
    as_json: options.Json = False,
) -> None:
    """Classify pictures of handwritten digits, of any size and on any paper.

    Each picture is preprocessed as MNIST was. For one that is damaged, blank, or shows several digits, an
    error is printed, and the exit code is 2.

    Example: mnist-jax predict runs/my-run photo.jpg --show
    """
    if bool(pictures) == stdin:
        got = f"{len(pictures)} pictures and --stdin" if pictures else "neither"
        raise ImageError(f"predict needs, after the model ({model}), pictures or --stdin; got {got}")
    if save_prepared is not None and save_prepared.suffix.lower() != ".png":
        raise ImageError(f"--save-prepared must name a .png file; got {save_prepared}")
    from mnist_onnx import Classifier

    classifier = Classifier(model / directory.MODEL if model.is_dir() else model, input_range=input_range)
    prepared = list(_from_stdin() if stdin else _from_files(pictures or []))
    answers = list(_answer(classifier, prepared))
    if save_prepared is not None:
        _save(save_prepared, answers)
    if as_json:
        console.print_json([_as_json(answer, classifier.labels) for answer in answers])
    elif csv:
        _print_csv(answers, classifier.labels)
    else:
        for answer in answers:
            _print(answer, classifier.labels, show)
    if any(answer.error for answer in answers):
        raise typer.Exit(2)


def _from_files(paths: list[Path]) -> Iterator[tuple[str, Any]]:
    """Yields each picture's name, and its 28x28 array or the error that it caused."""
    from mnist_jax.data.preprocess import prepare, read

    for path in paths:
        files = sorted(p for p in path.iterdir() if p.suffix.lower() in SUFFIXES) if path.is_dir() else [path]
        if not files:
            yield str(path), ImageError(f"{path} must hold PNG, JPEG, WebP or BMP pictures; got none")
        for file in files:
            try:
                yield str(file), prepare(read(file))
            except ImageError as error:
                yield str(file), error


def _from_stdin() -> Iterator[tuple[str, Any]]:
    """Yields 28x28 arrays from stdin, without preprocessing."""
    import numpy as np

    data = sys.stdin.buffer.read(LARGEST_STDIN + 1)
    if len(data) > LARGEST_STDIN:
        raise ImageError(f"stdin must hold at most {LARGEST_STDIN:,} bytes; got more; send fewer images")
    if data.startswith(b"\x93NUMPY"):
        array = _parse_npy(data)
    elif not data or len(data) % 784:
        raise ImageError(f"stdin must be a .npy file, or 784 bytes per image; got {len(data):,} bytes")
    else:
        array = np.frombuffer(data, np.uint8).reshape(-1, 28, 28)
    for index, picture in enumerate(array.reshape(-1, 28, 28)):
        yield f"stdin[{index}]", picture


def _parse_npy(data: bytes) -> "np.ndarray":
    """Returns the images of a .npy file, as a view, so that a forged header cannot exhaust the memory.

    Raises:
        ImageError: it is truncated, or holds other data.
    """
    import numpy as np

    from mnist_jax.data.formats import npy

    try:
        header = npy.read_header(data)
    except ValueError as error:
        raise ImageError(f"stdin must be a complete .npy file of numbers; {error}") from None
    shape = header.shape
    if header.dtype != np.uint8 or len(shape) not in (2, 3) or shape[-2:] != (28, 28):
        raise ImageError(f"stdin must hold uint8 [28, 28] or [n, 28, 28]; got {header.dtype} {list(shape)}")
    size, expected = len(data) - header.offset, math.prod(shape)
    if size != expected:
        raise ImageError(
            f"stdin must be a complete .npy file of numbers, {expected:,} bytes by its header; got {size:,}"
        )
    values = np.frombuffer(data, np.uint8, offset=header.offset)
    return values.reshape(shape, order="F" if header.by_columns else "C")


def _answer(classifier: Any, prepared: list[tuple[str, Any]]) -> Iterator[Answer]:
    """Runs the network once, on all pictures without an error."""
    import numpy as np

    good = [picture for _, picture in prepared if not isinstance(picture, ImageError)]
    rows = iter(classifier.predict(np.stack(good)).tolist() if good else [])
    for name, picture in prepared:
        if isinstance(picture, ImageError):
            yield Answer(name, None, [], "", str(picture))
        else:
            row = next(rows)
            yield Answer(name, picture, row, classifier.labels[row.index(max(row))], "")


def _as_json(answer: Answer, labels: list[str]) -> dict[str, Any]:
    if answer.error:
        return {"picture": answer.name, "error": answer.error}
    probabilities = dict(zip(labels, answer.probabilities, strict=True))
    return {"picture": answer.name, "label": answer.label, "probabilities": probabilities}


def _print_csv(answers: list[Answer], labels: list[str]) -> None:
    import csv

    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(["picture", "label", "probability", *labels, "error"])
    for answer in answers:
        columns = [f"{value:.6f}" for value in answer.probabilities] or [""] * len(labels)
        writer.writerow([answer.name, answer.label, max(columns), *columns, answer.error])


def _print(answer: Answer, labels: list[str], show: bool) -> None:
    if answer.error:
        named = answer.error.startswith(answer.name)  # messages about unreadable files do
        console.print_error(answer.error if named else f"{answer.name}: {answer.error}")
        return
    ranked = sorted(zip(answer.probabilities, labels, strict=True), reverse=True)
    others = ", ".join(f"{label} {percent(share)}" for share, label in ranked[1:3])
    print(f"{printable(answer.name)}: {answer.label} ({percent(ranked[0][0])}; then {others})")  # noqa: T201
    if show and answer.prepared is not None:
        print(_shades(answer.prepared))  # noqa: T201


def _shades(picture: "np.ndarray") -> str:
    """Draws a 28x28 image as text, in five shades, each pixel two characters wide."""
    return "\n".join("".join(2 * " ░▒▓█"[pixel * 5 // 256] for pixel in row) for row in picture.tolist())


def _save(path: Path, answers: list[Answer]) -> None:
    if len(answers) != 1:
        raise ImageError(f"--save-prepared takes exactly one picture; got {len(answers)}")
    if answers[0].prepared is not None:
        from PIL import Image

        from mnist_jax._utils.atomic_io import write_atomic

        buffer = io.BytesIO()
        Image.fromarray(answers[0].prepared).save(buffer, "PNG")
        write_atomic(path, buffer.getvalue())
