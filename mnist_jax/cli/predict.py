"""`mnist-jax predict`."""

import sys
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mnist_jax._utils.text import percent, printable
from mnist_jax.cli import console, options
from mnist_jax.cli.predict_input import from_paths, from_stdin, picture_files
from mnist_jax.cli.predict_output import (
    Answer,
    check_outputs,
    write_annotated,
    write_explanation,
    write_prepared,
)
from mnist_jax.config.networks import IMAGE_SHAPE
from mnist_jax.data.custom.source import DataSource
from mnist_jax.errors import ImageError
from mnist_jax.runs import directory

if TYPE_CHECKING:
    import numpy as np
    from PIL.Image import Image

LARGE, SMALL = 1600, 480  # pixels, of the pictures in a PNG and in a page


def predict(
    model: options.RunOrFile,
    pictures: Annotated[
        list[Path] | None,
        typer.Argument(metavar="IMAGE...", help="Picture files, folders of them, or CSV files of pixels."),
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
    several: Annotated[
        bool, typer.Option("--several", help="Read all digits of each picture, in reading order.")
    ] = False,
    annotate: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write the picture with boxes and answers as PNG.")
    ] = None,
    explain: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write an HTML page with each picture after each step."),
    ] = None,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Name hidden files left out.")] = False,
    csv: Annotated[bool, typer.Option("--csv", help="Print CSV, one line per picture.")] = False,
    as_json: options.Json = False,
) -> None:
    """Classify pictures of handwritten digits, of any size and on any paper.

    Each picture is preprocessed as MNIST was. For one that is damaged, blank, or in doubt to show one digit,
    the reason is printed, and the exit code is 2. An answer below 80 % is marked as unsure.

    Example: mnist-jax predict runs/my-run photo.jpg --show
    """
    if bool(pictures) == stdin:
        got = f"{len(pictures)} pictures and --stdin" if pictures else "neither"
        raise ImageError(f"predict needs, after the model ({model}), pictures or --stdin; got {got}")
    if stdin and (explain is not None or annotate is not None):
        raise ImageError("--explain and --annotate take pictures; got --stdin, whose images are not prepared")
    files = list(picture_files(pictures or [], verbose))
    check_outputs(files, several, save_prepared, annotate, explain)
    own = None
    if (model / directory.CONFIG).exists():
        run = directory.read(model)
        directory.check_exported(model, run)
        own = run.data
    from mnist_onnx import Classifier

    classifier = Classifier(model / directory.MODEL if model.is_dir() else model, input_range=input_range)
    shown = LARGE if annotate is not None else SMALL if explain is not None else 0
    flags = {"invert": own is not None and own.invert, "resize": own is not None and own.resize}
    examined = partial(_examined, several, shown, own)
    results = list(from_stdin() if stdin else from_paths(files, examined, **flags))
    answers = list(_answer(classifier, list(_each_digit(results))))
    if as_json:
        console.print_json([_as_json(answer, classifier.labels) for answer in answers])
    elif csv:
        _print_csv(answers, classifier.labels)
    else:
        for answer in answers:
            _print(answer, classifier.labels, show)
    if save_prepared is not None:
        write_prepared(save_prepared, answers)
    if explain is not None:
        write_explanation(explain, results, answers)
    if annotate is not None:
        write_annotated(annotate, results[0][1], answers)
    if any(answer.error for answer in answers):
        raise typer.Exit(2)


def _examined(several: bool, shown: int, own: DataSource | None, picture: "Image") -> Any:
    """The `Preparation` or `PagePreparation` of a picture, its steps with at most that many pixels.

    For a network of one's own data, a picture is taken as that data was: whole, or 28x28 as it is.
    """
    if own is not None and not several and (own.resize or picture.size == IMAGE_SHAPE):
        from mnist_jax.data.custom.pixels import gray, scaled

        image = scaled(picture) if own.resize else gray(picture)
        return 255 - image if own.invert else image
    from mnist_jax.data.preprocess import examine, examine_all
    from mnist_jax.data.preprocess.reading import reduced

    result: Any = (examine_all if several else examine)(picture)
    steps = {name: reduced(step, shown) for name, step in result.steps.items()} if shown else {}
    return replace(result, steps=steps)


def _each_digit(results: list[tuple[str, Any]]) -> Iterator[tuple[str, Any]]:
    """Yields each digit under its picture's name; the reason as an error, where one picture is in doubt."""
    for name, result in results:
        if doubt := getattr(result, "doubt", ""):
            yield name, ImageError(doubt)
        elif hasattr(result, "digits"):
            yield from ((name, digit) for digit in result.digits)
        else:
            yield name, result


def _answer(classifier: Any, prepared: list[tuple[str, Any]]) -> Iterator[Answer]:
    """Runs the network once, on all pictures without an error."""
    import numpy as np

    images = [getattr(item, "image", item) for _, item in prepared]
    good = [image for image in images if not isinstance(image, ImageError)]
    rows = iter(classifier.predict(np.stack(good)).tolist() if good else [])
    for (name, item), image in zip(prepared, images, strict=True):
        if isinstance(image, ImageError):
            yield Answer(name, None, [], "", str(image))
            continue
        row = next(rows)
        label = classifier.labels[row.index(max(row))]
        place = (item.row, item.box) if hasattr(item, "row") else None
        yield Answer(name, image, row, label, "", place, getattr(item, "doubt", ""))


def _as_json(answer: Answer, labels: list[str]) -> dict[str, Any]:
    if answer.error:
        return {"picture": answer.name, "error": answer.error}
    probabilities = dict(zip(labels, answer.probabilities, strict=True))
    result: dict[str, Any] = {"picture": answer.name, "label": answer.label, "probabilities": probabilities}
    if answer.doubt:
        result["doubt"] = answer.doubt
    if answer.place is not None:
        result["row"], result["box"] = answer.place
    return result


def _print_csv(answers: list[Answer], labels: list[str]) -> None:
    import csv

    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(["picture", "label", "probability", *labels, "doubt", "error"])
    for answer in answers:
        columns = [f"{value:.6f}" for value in answer.probabilities] or [""] * len(labels)
        writer.writerow([answer.name, answer.label, max(columns), *columns, answer.doubt, answer.error])


def _print(answer: Answer, labels: list[str], show: bool) -> None:
    if answer.error:
        named = answer.error.startswith(f"{answer.name} must")  # messages about unreadable files do
        console.print_error(answer.error if named else f"{answer.name}: {answer.error}")
        return
    ranked = sorted(zip(answer.probabilities, labels, strict=True), reverse=True)
    others = ", ".join(f"{label} {percent(share)}" for share, label in ranked[1:3])
    row = f", row {answer.place[0] + 1}" if answer.place else ""
    doubt = f"; {answer.doubt}" if answer.doubt else ""
    print(  # noqa: T201
        f"{printable(answer.name)}{row}: {answer.marked} ({percent(ranked[0][0])}; then {others}{doubt})"
    )
    if show and answer.prepared is not None:
        print(_shades(answer.prepared))  # noqa: T201


def _shades(picture: "np.ndarray") -> str:
    """Draws a 28x28 image as text, in five shades, each pixel two characters wide."""
    return "\n".join("".join(2 * " ░▒▓█"[pixel * 5 // 256] for pixel in row) for row in picture.tolist())
