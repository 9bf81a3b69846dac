"""`mnist-jax predict`."""

import io
import sys
from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from mnist_jax._utils.text import percent, printable
from mnist_jax.cli import console, options
from mnist_jax.cli.predict_input import from_files, from_stdin, picture_files
from mnist_jax.errors import ImageError
from mnist_jax.runs import directory

if TYPE_CHECKING:
    import numpy as np
    from PIL.Image import Image

LARGE, SMALL = 1600, 480  # pixels, of the pictures in a PNG and in a page
SURE = 0.8  # probability, from which an answer is given without a doubt


class Answer(NamedTuple):
    """The result for one picture: a prediction or an error.

    Attributes:
        name: file name, or index in stdin.
        prepared: the network's input, uint8 `[28, 28]`; None after an error.
        probabilities: one per class; empty after an error.
        label: the predicted class; empty after an error.
        error: why there is no prediction; empty otherwise.
        place: of several digits in one picture, the row and the box (left, top, right, bottom; shares of its
            width and height); None of a picture of one.
        shape: what speaks against its shape being one digit; empty if nothing does.
    """

    name: str
    prepared: "np.ndarray | None"
    probabilities: list[float]
    label: str
    error: str
    place: tuple[int, tuple[float, float, float, float]] | None = None
    shape: str = ""

    @property
    def doubt(self) -> str:
        """Why the prediction may be wrong; empty if nothing speaks against it."""
        unsure = bool(self.probabilities) and max(self.probabilities) < SURE
        return self.shape or ("the network is unsure" if unsure else "")


def predict(
    model: options.RunOrFile,
    pictures: Annotated[
        list[Path] | None,
        typer.Argument(metavar="IMAGE...", help="Picture files, or folders of them."),
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
    _check_output("--save-prepared", save_prepared, ".png")
    _check_output("--annotate", annotate, ".png")
    _check_output("--explain", explain, ".html")
    if explain is not None and stdin:
        raise ImageError("--explain takes pictures; got --stdin, whose images are not prepared")
    files = list(picture_files(pictures or [], verbose))
    if annotate is not None and len(files) != 1:
        raise ImageError(f"--annotate takes exactly one picture; got {len(files)}")
    from mnist_onnx import Classifier

    classifier = Classifier(model / directory.MODEL if model.is_dir() else model, input_range=input_range)
    shown = LARGE if annotate is not None else SMALL if explain is not None else 0
    results = list(from_stdin() if stdin else from_files(files, partial(_examined, several, shown)))
    answers = list(_answer(classifier, list(_each_digit(results))))
    if annotate is not None:
        _annotate(annotate, results[0][1], answers)
    if explain is not None:
        _explain(explain, results, answers)
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


def _check_output(name: str, path: Path | None, suffix: str) -> None:
    if path is not None and path.suffix.lower() != suffix:
        raise ImageError(f"{name} must name a {suffix} file; got {path}")


def _examined(several: bool, shown: int, picture: "Image") -> Any:
    """The `Preparation` or `PagePreparation` of a picture, its steps with at most that many pixels."""
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


def _annotate(path: Path, page: Any, answers: list[Answer]) -> None:
    found = _found(answers)
    if not found:
        raise ImageError(f"--annotate needs --several, and digits; got {answers[0].error or 'one digit'}")
    from mnist_jax.report.explanation import annotated

    _write_png(path, annotated(page.steps["picture"], found))


def _found(answers: Iterable[Answer]) -> list[tuple[tuple[float, float, float, float], str]]:
    """The box and the answer of each of several digits."""
    return [(answer.place[1], answer.label + "?" * bool(answer.doubt)) for answer in answers if answer.place]


def _explain(path: Path, results: list[tuple[str, Any]], answers: list[Answer]) -> None:
    from mnist_jax._utils.atomic_io import write_atomic
    from mnist_jax.report.explanation import annotated, explanation

    rows = []
    for name, result in results:
        own = [answer for answer in answers if answer.name == name]
        steps = dict(getattr(result, "steps", {}))
        if found := _found(own):
            steps["answers"] = annotated(steps["picture"], found)
        rows.append((name, "; ".join(_in_short(answer) for answer in own), steps))
    write_atomic(path, explanation(rows).encode())


def _in_short(answer: Answer) -> str:
    if answer.error:
        return answer.error
    doubt = f"? ({answer.doubt})" if answer.doubt else ""
    return f"{answer.label}{doubt}, {percent(max(answer.probabilities))}"


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
        named = answer.error.startswith(answer.name)  # messages about unreadable files do
        console.print_error(answer.error if named else f"{answer.name}: {answer.error}")
        return
    ranked = sorted(zip(answer.probabilities, labels, strict=True), reverse=True)
    others = ", ".join(f"{label} {percent(share)}" for share, label in ranked[1:3])
    row = f", row {answer.place[0] + 1}" if answer.place else ""
    doubt = f"; {answer.doubt}" if answer.doubt else ""
    print(  # noqa: T201
        f"{printable(answer.name)}{row}: {answer.label}{'?' * bool(doubt)} "
        f"({percent(ranked[0][0])}; then {others}{doubt})"
    )
    if show and answer.prepared is not None:
        print(_shades(answer.prepared))  # noqa: T201


def _shades(picture: "np.ndarray") -> str:
    """Draws a 28x28 image as text, in five shades, each pixel two characters wide."""
    return "\n".join("".join(2 * " ░▒▓█"[pixel * 5 // 256] for pixel in row) for row in picture.tolist())


def _save(path: Path, answers: list[Answer]) -> None:
    if len(answers) != 1:
        raise ImageError(f"--save-prepared takes exactly one picture; got {len(answers)}")
    if answers[0].prepared is not None:
        _write_png(path, answers[0].prepared)


def _write_png(path: Path, picture: "np.ndarray") -> None:
    from PIL import Image

    from mnist_jax._utils.atomic_io import write_atomic

    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "PNG")
    write_atomic(path, buffer.getvalue())
