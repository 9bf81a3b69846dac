"""The files that `mnist-jax predict` writes: the prepared digit, the page with its answers, and the steps."""

from collections.abc import Iterable
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from mnist_jax._utils.atomic_io import write_atomic
from mnist_jax._utils.text import percent, printable
from mnist_jax.cli import console
from mnist_jax.errors import ImageError

if TYPE_CHECKING:
    import numpy as np

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

    @property
    def marked(self) -> str:
        """The label, with a question mark where there is doubt."""
        return self.label + "?" * bool(self.doubt)


def check_outputs(
    files: Iterable[Any],
    several: bool,
    save_prepared: Path | None,
    annotate: Path | None,
    explain: Path | None,
) -> None:
    """Refuses, before any work, what cannot be written.

    Raises:
        ImageError: for a wrong suffix, a missing folder, an input as output, or options that do not fit.
    """
    files = [file for file in files if isinstance(file, Path)]
    for option, path, suffix in (
        ("--save-prepared", save_prepared, ".png"),
        ("--annotate", annotate, ".png"),
        ("--explain", explain, ".html"),
    ):
        if path is None:
            continue
        if path.suffix.lower() != suffix:
            raise ImageError(f"{option} must name a {suffix} file; got {path}")
        if not path.parent.is_dir():
            raise ImageError(f"{option} must name a file in an existing folder; got {path}")
        if path.exists() and any(file.exists() and path.samefile(file) for file in files):
            raise ImageError(f"{option} must not overwrite a picture that is read; got {path}")
    if save_prepared is not None and several:
        raise ImageError("--save-prepared takes one digit; got --several, for which --explain shows each")
    if save_prepared is not None and len(files) > 1:
        raise ImageError(f"--save-prepared takes exactly one picture; got {len(files)}")
    if annotate is not None and not several:
        raise ImageError("--annotate needs --several, which finds the digits' boxes")
    if annotate is not None and len(files) != 1:
        raise ImageError(f"--annotate takes exactly one picture; got {len(files)}")


def write_annotated(path: Path, page: Any, answers: list[Answer]) -> None:
    """Writes a picture with the answers on it; says so where there are none."""
    found = _found(answers)
    if not found:
        console.print_status(f"{path} is not written: no digit was found")
        return
    from mnist_jax.report.explanation import annotated, png

    write_atomic(path, png(annotated(page.steps["picture"], found)))


def _found(answers: Iterable[Answer]) -> list[tuple[tuple[float, float, float, float], str]]:
    """The box and the answer of each of several digits."""
    return [(answer.place[1], answer.marked) for answer in answers if answer.place]


def write_explanation(path: Path, results: list[tuple[str, Any]], answers: list[Answer]) -> None:
    """Writes a page with each picture after each step, and its answers."""
    from mnist_jax.report.explanation import annotated, explanation

    rows, rest = [], iter(answers)
    for name, result in results:
        own = list(islice(rest, len(getattr(result, "digits", ())) or 1))
        steps = dict(getattr(result, "steps", {}))
        if found := _found(own):
            steps["answers"] = annotated(steps["picture"], found)
        rows.append((printable(name), "; ".join(_in_short(answer) for answer in own), steps))
    write_atomic(path, explanation(rows).encode())


def _in_short(answer: Answer) -> str:
    if answer.error:
        return printable(answer.error)
    doubt = f" ({answer.doubt})" if answer.doubt else ""
    return f"{answer.marked}{doubt}, {percent(max(answer.probabilities))}"


def write_prepared(path: Path, answers: list[Answer]) -> None:
    """Writes the 28x28 input of the network."""
    if len(answers) != 1:
        raise ImageError(f"--save-prepared takes exactly one picture; got {len(answers)}")
    if answers[0].prepared is not None:
        from mnist_jax.report.explanation import png

        write_atomic(path, png(answers[0].prepared))
