"""The whole way with data of one's own: train, report, verify, predict, for each kind of file."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mnist_jax.cli import main
from mnist_jax.data.datasets import Dataset
from mnist_jax.data.formats import idx
from mnist_jax.runs import directory


def write_csv(path: Path, images: np.ndarray, labels: np.ndarray | None) -> None:
    """A file as Kaggle's Digit Recognizer has them."""
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        names = [f"pixel{number}" for number in range(784)]
        writer.writerow(names if labels is None else ["label", *names])
        for index, image in enumerate(images):
            writer.writerow([*([] if labels is None else [labels[index]]), *image.ravel()])


def follow(run: Path) -> None:
    """What is done with a finished run: a report, proofs, other files, a second run, a comparison."""
    assert main(["report", str(run)]) == 0
    assert main(["verify", str(run)]) == 0
    assert main(["evaluate", str(run)]) == 0
    for precision in ("float16", "int8-static"):
        assert main(["export", str(run), "--precision", precision]) == 0
    assert main(["train", "--resume", str(run), "--epochs", "7"]) == 0
    assert main(["verify", str(run)]) == 0


def test_kaggles_files(digits: Dataset, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder, run = tmp_path / "digit-recognizer", tmp_path / "run"
    folder.mkdir()
    write_csv(folder / "train.csv", digits.train.images[:600], digits.train.labels[:600])
    write_csv(folder / "test.csv", digits.test.images, None)
    assert main(["train", "--data", str(folder), "--epochs", "3", "--out", str(run), "--report"]) == 0
    printed = capsys.readouterr().out
    assert "data       digit-recognizer" in printed
    assert "equals JAX: 120 images" in printed  # a fifth is held out
    assert main(["verify", str(run)]) == 0
    capsys.readouterr()
    assert main(["predict", str(run), str(folder / "test.csv"), "--csv"]) == 0
    rows = list(csv.DictReader(capsys.readouterr().out.splitlines()))
    assert len(rows) == 297
    assert rows[3]["picture"] == f"{folder / 'test.csv'}[3]"
    right = sum(int(row["label"]) == label for row, label in zip(rows, digits.test.labels, strict=True))
    assert right > 200
    other = tmp_path / "other"
    assert main(["train", "--data", str(folder), "--epochs", "1", "--seed", "1", "--out", str(other)]) == 0
    compared = tmp_path / "compared.html"
    assert main(["compare", str(run), str(other), "--out", str(compared)]) == 0
    assert main(["ensemble", str(run), str(other), "--out", str(tmp_path / "both.onnx")]) == 0


def test_a_run_finds_its_data_where_it_is_now(
    digits: Dataset, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, run = tmp_path / "mine.csv", tmp_path / "run"
    write_csv(path, digits.train.images[:300], digits.train.labels[:300])
    assert main(["train", "--data", str(path), "--epochs", "1", "--out", str(run)]) == 0
    moved = path.rename(tmp_path / "elsewhere.csv")
    capsys.readouterr()
    assert main(["verify", str(run)]) == 2
    assert f"{path} must be a file or folder with a data set; it does not exist" in capsys.readouterr().err
    assert main(["verify", str(run), "--data", str(moved)]) == 0
    assert main(["train", "--resume", str(run), "--epochs", "2", "--data", str(moved)]) == 0
    write_csv(moved, digits.train.images[:301], digits.train.labels[:301])
    capsys.readouterr()
    assert main(["verify", str(run), "--data", str(moved)]) == 2
    assert "the run must use the mine it started with" in capsys.readouterr().err


def letters(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Images of 26 classes: two strokes, whose places tell the class."""
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % 26
    images = rng.integers(0, 60, (count, 28, 28), np.uint8)
    for image, label in zip(images, labels, strict=True):
        image[4:24, 3 + 4 * (label % 6) : 5 + 4 * (label % 6)] = rng.integers(200, 256)
        image[3 + 4 * (label // 6) : 5 + 4 * (label // 6), 4:24] = rng.integers(200, 256)
    return images, labels


def test_a_set_of_26_letters(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder, run = tmp_path / "letters", tmp_path / "run"
    folder.mkdir()
    for part, count in (("train", 1040), ("test", 260)):
        images, labels = letters(count, count)
        (folder / f"emnist-letters-{part}-images-idx3-ubyte").write_bytes(idx.encode(images.swapaxes(1, 2)))
        (folder / f"emnist-letters-{part}-labels-idx1-ubyte").write_bytes(idx.encode(labels + 1))
    mapping = "\n".join(f"{number + 1} {65 + number} {97 + number}" for number in range(26))
    (folder / "emnist-letters-mapping.txt").write_text(mapping)
    arguments = ["--data", str(folder), "--transposed", "--epochs", "6", "--out", str(run), "--report"]
    assert main(["train", "--preset", "mlp-100", *arguments]) == 0
    read = directory.read(run)
    assert read.config.model.num_classes == 26
    assert read.class_names[:3] == ("Aa", "Bb", "Cc")
    metrics = json.loads((run / "metrics.json").read_text())
    assert metrics["test"]["accuracy"] > 0.9
    assert len(metrics["test"]["confusion"]) == 26
    card = json.loads((run / "model.json").read_text())
    assert card["outputs"][0]["shape"] == ["batch", 26]
    assert card["labels"][25] == "Zz"
    page = (run / "report.html").read_text()
    assert page.count("<tr>") >= 26
    follow(run)
    images, labels = letters(26, 5)
    Image.fromarray(images[7]).save(tmp_path / "h.png")
    capsys.readouterr()
    assert main(["predict", str(run), str(tmp_path / "h.png")]) == 0
    assert ": Hh (" in capsys.readouterr().out
    assert main(["evaluate", str(run), "--dataset", "digits"]) == 2
    assert "digits must have the network's 26 classes; it has 10" in capsys.readouterr().err


def test_a_folder_of_60_pictures(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder, run = tmp_path / "shapes", tmp_path / "run"
    rng = np.random.default_rng(0)
    for name in ("bar", "cross", "ring"):
        (folder / name).mkdir(parents=True)
        for number in range(20):
            paper = np.full((120, 100), 235, np.uint8) + rng.integers(-5, 5, (120, 100)).astype(np.uint8)
            x, y = rng.integers(30, 50, 2)
            if name in ("bar", "cross"):
                paper[y : y + 60, x + 12 : x + 18] = 30
            if name == "cross":
                paper[y + 25 : y + 31, x - 10 : x + 40] = 30
            if name == "ring":
                rows, columns = np.mgrid[:120, :100]
                distance = np.hypot(rows - y - 30, columns - x)
                paper[(distance > 16) & (distance < 22)] = 30
            Image.fromarray(paper).save(folder / name / f"{number}.png")
    arguments = ["--epochs", "12", "--batch-size", "8", "--out", str(run), "--validation-fraction", "0.2"]
    assert main(["train", "--data", str(folder), *arguments]) == 0
    printed = capsys.readouterr()
    assert "60 of 60 pictures" in printed.err
    assert json.loads((run / "metrics.json").read_text())["test"]["accuracy"] == 1
    assert main(["verify", str(run)]) == 0
    assert main(["predict", str(run), str(folder / "ring"), "--json"]) == 0
    answers = json.loads(capsys.readouterr().out.split("\n", 1)[1])
    assert {answer["label"] for answer in answers} == {"ring"}


@pytest.mark.slow
def test_sweep_and_tune_take_own_data(tmp_path: Path) -> None:
    images, labels = letters(520, 0)
    path = tmp_path / "letters.npz"
    np.savez(path, images=images, labels=labels)
    data = ["--data", str(path), "--epochs", "1"]
    assert main(["sweep", "--seeds", "2", *data, "--out", str(tmp_path / "swept")]) == 0
    assert directory.read(tmp_path / "swept").config.model.num_classes == 26
    assert main(["tune", "--trials", "1", *data, "--out", str(tmp_path / "tuned")]) == 0
    assert directory.read(tmp_path / "tuned" / "run").config.model.num_classes == 26


def test_black_on_white_and_other_sizes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    images, labels = letters(520, 0)
    path, run = tmp_path / "letters.npz", tmp_path / "run"
    np.savez(path, images=np.kron(255 - images // 2, np.ones((2, 2), np.uint8)), labels=labels)
    arguments = ["train", "--data", str(path), "--epochs", "1", "--out", str(run)]
    assert main(arguments) == 2
    assert "must be 28x28; got 56x56; scale them to fit: resize=True, or --resize" in capsys.readouterr().err
    assert main([*arguments, "--resize"]) == 2
    assert "invert them: invert=True, or --invert" in capsys.readouterr().err
    assert not run.exists()
    assert main([*arguments, "--resize", "--invert"]) == 0
    assert main(["verify", str(run)]) == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--invert"], "--invert is for --data, a data set of your own; got none"),
        (["--test-data", "."], "--test-data is for --data"),
        (["--test-fraction", "0.1"], "--test-fraction is for --data"),
        (["--data", "none.csv"], "none.csv must be a file or folder with a data set; it does not exist"),
        (["--data", "a.csv", "--dataset", "mnist"], "--data and --dataset or --data-dir exclude each other"),
        (["--data", "a.csv"], "a.csv must have 784 columns of pixels, 28x28"),
        (["--data", "a.csv", "--classes", "a"], "classes must be 2 to 1,000 names"),
        (["--data", "a.csv", "--test-fraction", "1"], "test fraction must be a number below 1"),
        (["--data", "."], "must hold a folder of pictures"),
    ],
)
def test_mistakes_are_one_line_and_leave_nothing(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.csv").write_text("1,2,3\n")
    for command in ("train", "sweep", "tune"):
        assert main([command, *arguments, "--out", "run"]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert message in line
    assert [path.name for path in tmp_path.iterdir()] == ["a.csv"]


def test_damaged_records_of_data_are_refused(
    digits: Dataset, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, run = tmp_path / "mine.csv", tmp_path / "run"
    write_csv(path, digits.train.images[:100], digits.train.labels[:100])
    assert main(["train", "--data", str(path), "--epochs", "1", "--out", str(run)]) == 0
    whole = json.loads((run / "config.json").read_text())
    for changes, message in (
        ({"classes": ["a", "b"]}, "config.json is damaged: classes must be 10 names"),
        ({"classes": 3}, "config.json is damaged: classes must be 10 names"),
        ({"data": {"path": 3}}, "config.json is damaged: data must have the fields"),
        ({"data": {**whole["data"], "path": "\0"}}, "config.json is damaged: path must be a path"),
        ({"data": {**whole["data"], "invert": 3}}, "config.json is damaged: invert must be true or false"),
    ):
        (run / "config.json").write_text(json.dumps({**whole, **changes}))
        capsys.readouterr()
        assert main(["verify", str(run)]) == 2
        assert message in capsys.readouterr().err
