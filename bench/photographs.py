"""`bench photographs`: accuracy on simulated photographs, with silent errors counted apart."""

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from itertools import batched
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import numpy as np
import typer
from PIL import Image, ImageDraw, ImageOps

from bench import options, output
from bench.photos import sets
from bench.photos.pages import Rows
from mnist_jax.data import preprocess
from mnist_jax.data.datasets import load
from mnist_jax.errors import ImageError, InputError
from mnist_jax.runs import directory

CLOCK = (
    "Photographs of digits that the network reads right from MNIST's own image. Silently wrong: an answer "
    "without a doubt that is not the digit. Sure: at least the given probability."
)
VALIDATION = 1 / 6  # of MNIST's training set: its last 10,000 images
ALL = "all photographs"
NAMES = {"right": "right", "wrong": "silently wrong", "refused": "no digit found", "unsure": "network unsure"}
OUTCOMES = tuple(NAMES)
COLUMNS = (
    ("run", lambda row: row["run"]),
    ("kind", lambda row: row["kind"]),
    ("digits", lambda row: str(row["count"])),
    ("right", lambda row: f"{row['right']:.1%}"),
    ("silently wrong", lambda row: f"{row['wrong']:.1%}"),
    ("doubted: no digit found", lambda row: f"{row['refused']:.1%}"),
    ("network unsure", lambda row: f"{row['unsure']:.1%}"),
)


def photographs(
    run_dirs: Annotated[list[Path], typer.Argument(metavar="RUN_DIR...", help="Run directories.")],
    name: Annotated[str, typer.Option("--set", metavar="S", help="working or frozen.")] = "working",
    sure: Annotated[float, typer.Option(metavar="P", help="Probability of an answer without doubt.")] = 0.8,
    dataset: options.DatasetName = "mnist",
    data_dir: options.DataDir = None,
    out: options.Out = None,
) -> None:
    """Accuracy of each run's network on simulated photographs of 16 kinds, and on pages of digits.

    The runs must be trained with `--validation-fraction 0.16666666`, so that no digit is known to them.

    Example: mnist-jax bench photographs runs/mine --set working
    """
    from mnist_onnx import Classifier

    if name not in sets.SIZES:
        raise InputError(f"--set must be {' or '.join(sets.SIZES)}; got {name}")
    examples = load(dataset, data_dir, validation_fraction=VALIDATION).validation
    if examples is None:
        raise InputError(f"the data set must have a training set; got {dataset}")
    images, labels = np.asarray(examples.images), np.asarray(examples.labels)
    result = output.new("photographs", CLOCK)
    result |= {"set": name, "sha256": sets.SHA256[name], "sure": sure}
    with ThreadPoolExecutor() as pool:
        prepared = [
            Prepared(one.kind, one.digit, image)
            for batch in batched(sets.photographs(name, images), 64)
            for one, image in zip(batch, pool.map(_prepare, batch), strict=True)
        ]
        for digits in pool.map(_page, sets.pages(name, images)):
            prepared += digits
    for folder in run_dirs:
        classifier = Classifier(folder / directory.MODEL)
        known = classifier.predict(images).argmax(axis=-1) == labels
        run = classifier.metadata.get("preset", folder.name)
        result["rows"] += _score(run, classifier, prepared, known, labels, sure)
    output.finish(result, COLUMNS, _plot, out)
    if out is not None:
        _examples(list(sets.photographs("working", images, copies=1))).save(out / "photographs-examples.png")


class Prepared(NamedTuple):
    """A digit as the network sees it.

    Attributes:
        kind: of photograph, or "pages".
        digit: its index in MNIST's last 10,000 training images.
        image: uint8 `[28, 28]`; None where preprocessing was in doubt.
    """

    kind: str
    digit: int
    image: np.ndarray | None


def _prepare(photograph: sets.Photograph) -> np.ndarray | None:
    try:
        return preprocess.prepare(photograph.picture)
    except ImageError:
        return None


def _page(page: tuple[Any, Rows]) -> list[Prepared]:
    """A page's digits; those of a row that was miscounted are in doubt."""
    picture, rows = page
    try:
        found = preprocess.prepare_all(picture)
    except ImageError:
        found = []
    result = []
    for number, row in enumerate(rows):
        own = [digit for digit in found if digit.row == number]
        images = [digit.image for digit in own] if len(own) == len(row) else [None] * len(row)
        result += [Prepared("pages", digit, image) for digit, image in zip(row, images, strict=True)]
    return result


def _score(
    run: str, classifier: Any, prepared: list[Prepared], known: np.ndarray, labels: np.ndarray, sure: float
) -> list[dict[str, Any]]:
    answers = iter(classifier.predict(np.stack([one.image for one in prepared if one.image is not None])))
    counts: dict[str, Counter[str]] = {}
    for kind, digit, image in prepared:
        row = None if image is None else next(answers)
        if not known[digit]:
            continue
        if row is None:
            outcome = "refused"
        elif row.max() < sure:
            outcome = "unsure"
        else:
            outcome = "right" if row.argmax() == labels[digit] else "wrong"
        for name in (kind, ALL) if kind != "pages" else (kind,):
            counts.setdefault(name, Counter())[outcome] += 1
    return [
        {"run": run, "kind": kind, "count": count.total()}
        | {outcome: count[outcome] / count.total() for outcome in OUTCOMES}
        for kind, count in sorted(counts.items(), key=lambda item: item[0] in (ALL, "pages"))
    ]


def _examples(photographs: list[sets.Photograph]) -> Image.Image:
    """Photographs under their kinds, and below each the digit that was found in it."""
    across, side, small = 8, 150, 56
    rows = -(-len(photographs) // across)
    sheet = Image.new("RGB", (across * (side + 10), rows * (side + small + 34)), "white")
    for number, one in enumerate(sorted(photographs, key=lambda one: one.kind)):
        x, y = number % across * (side + 10) + 5, number // across * (side + small + 34) + 5
        picture = ImageOps.contain(one.picture.convert("RGBA"), (side, side))
        sheet.paste(picture, (x + (side - picture.width) // 2, y + 16), picture)
        ImageDraw.Draw(sheet).text((x, y), one.kind, fill="black")
        image = _prepare(one)
        if image is not None:
            sheet.paste(
                Image.fromarray(image).resize((small, small)), (x + (side - small) // 2, y + side + 22)
            )
    return sheet


def _plot(axes: Any, rows: list[dict[str, Any]]) -> None:
    rows = [row for row in rows if row["run"] == rows[-1]["run"]][::-1]
    left = np.zeros(len(rows))
    for outcome, color in zip(OUTCOMES, ("#3a7d44", "#c1121f", "#adb5bd", "#dee2e6"), strict=True):
        shares = np.array([row[outcome] for row in rows])
        axes.barh([row["kind"] for row in rows], shares, left=left, color=color, label=NAMES[outcome])
        left += shares
    axes.set_xlabel(f"share of photographs, {rows[0]['run']}")
    axes.legend(loc="lower left")
