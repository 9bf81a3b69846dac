import csv
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from test_prepare import drawing

from mnist_jax.cli import main
from mnist_jax.datasets import Dataset
from mnist_jax.loop import Fit
from mnist_jax.prepare import prepare
from mnist_jax.specs import Config
from mnist_onnx import Classifier, save, to_onnx


@pytest.fixture
def model(trained: tuple[Config, Fit], tmp_path: Path) -> Path:
    save(to_onnx(trained[0].model, trained[1].state.params), tmp_path / "model.onnx")
    return tmp_path / "model.onnx"


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """A folder with a two, a blank page, a file that is no picture, and one that does not count."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    drawing().save(folder / "a two.png")
    Image.new("L", (50, 50), 255).save(folder / "blank.jpg")
    (folder / "damaged.webp").write_bytes(b"RIFF")
    (folder / "notes.txt").write_text("")
    return folder


def test_a_picture_gets_the_networks_answer(
    model: Path, pictures: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    expected = Classifier(model).predict(prepare(drawing())[None])[0]
    assert main(["predict", str(model), str(pictures / "a two.png"), "--json"]) == 0
    (found,) = json.loads(capsys.readouterr().out)
    np.testing.assert_allclose(list(found["probabilities"].values()), expected, atol=1e-6)
    assert found["label"] == str(expected.argmax())
    assert main(["predict", str(model.parent), str(pictures / "a two.png"), "--show"]) == 0  # a run directory
    first, *shown = capsys.readouterr().out.rstrip("\n").split("\n")
    assert first.startswith(
        f"{pictures / 'a two.png'}: {expected.argmax()} ({100 * expected.max():.2f} %; then"
    )
    assert [len(line) for line in shown] == [56] * 28
    assert "█" in "".join(shown)


def test_of_many_each_gets_its_answer_or_its_reason(
    model: Path, pictures: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["predict", str(model), str(pictures), "--csv"]) == 2
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert [Path(row["picture"]).name for row in rows] == ["a two.png", "blank.jpg", "damaged.webp"]
    assert [bool(row["label"]) for row in rows] == [True, False, False]
    assert "blank" in rows[1]["error"]
    assert float(rows[0]["probability"]) == max(float(rows[0][str(digit)]) for digit in range(10))
    assert main(["predict", str(model), str(pictures)]) == 2
    printed = capsys.readouterr()
    assert len(printed.out.splitlines()) == 1
    assert len(printed.err.splitlines()) == 2
    assert main(["predict", str(model), str(pictures), "--json"]) == 2
    assert ["error" in answer for answer in json.loads(capsys.readouterr().out)] == [False, True, True]


def test_the_prepared_picture_can_be_kept(model: Path, pictures: Path, tmp_path: Path) -> None:
    path = tmp_path / "seen.png"
    assert main(["predict", str(model), str(pictures / "a two.png"), "--save-prepared", str(path)]) == 0
    np.testing.assert_array_equal(np.asarray(Image.open(path)), prepare(drawing()))


@pytest.mark.parametrize("kind", ["raw", "npy"])
def test_stdin_takes_arrays(model: Path, digits: Dataset, kind: str) -> None:
    images = np.ascontiguousarray(digits.test.images[:5])
    buffer = io.BytesIO()
    np.save(buffer, images)
    data = images.tobytes() if kind == "raw" else buffer.getvalue()
    command = [sys.executable, "-m", "mnist_jax.cli", "predict", str(model), "--stdin", "--json"]
    done = subprocess.run(command, input=data, capture_output=True, check=True)
    found = [list(answer["probabilities"].values()) for answer in json.loads(done.stdout)]
    np.testing.assert_allclose(found, Classifier(model).predict(images), atol=1e-6)


def test_predicting_leaves_nothing_behind(model: Path, pictures: Path, tmp_path: Path) -> None:
    """onnxruntime would keep a device id in the user's cache folder."""
    home = tmp_path / "home"
    home.mkdir()
    places = {name: str(home) for name in ("HOME", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME")}
    command = [sys.executable, "-m", "mnist_jax.cli", "predict", str(model), str(pictures / "a two.png")]
    subprocess.run(command, env={**os.environ, **places}, check=True, capture_output=True)
    assert list(home.rglob("*")) == []


def object_array() -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, np.array([{}, 1], object), allow_pickle=True)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "or 784 bytes for each picture; got 0 bytes"),
        (bytes(785), "got 785 bytes"),
        (b"\x93NUMPY", "must be a whole .npy file"),
        (object_array(), "must be a whole .npy file of numbers"),
    ],
)
def test_stdin_that_holds_no_pictures_is_refused(model: Path, data: bytes, message: str) -> None:
    command = [sys.executable, "-m", "mnist_jax.cli", "predict", str(model), "--stdin"]
    done = subprocess.run(command, input=data, capture_output=True, check=False)
    assert done.returncode == 2
    assert message in done.stderr.decode()
    assert len(done.stderr.splitlines()) == 1


def test_mistakes_are_one_line(
    model: Path, pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    two = str(pictures / "a two.png")
    (tmp_path / "empty").mkdir()
    for arguments, message in (
        ([str(model)], "pictures or --stdin; got neither"),
        ([str(model), two, "--stdin"], "pictures and --stdin"),
        ([str(model), "nowhere.png"], "nowhere.png must be a PNG, JPEG, WebP or BMP picture; No such file"),
        ([str(model), str(tmp_path / "empty")], "must hold PNG, JPEG, WebP or BMP pictures; got none"),
        (["nowhere.onnx", two], "nowhere.onnx must be an ONNX file; it cannot be read"),
        ([str(pictures), two], "model.onnx must be an ONNX file; it cannot be read"),
        ([str(model), two, two, "--save-prepared", "x.png"], "--save-prepared takes one picture; got 2"),
        ([str(model), two, "--save-prepared", "x.jpg"], "must name a .png file; got x.jpg"),
    ):
        assert main(["predict", *arguments]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert message in line


def test_prediction_needs_no_jax(model: Path, pictures: Path) -> None:
    code = (
        "import sys; from mnist_jax.cli import main; "
        f"code = main(['predict', {str(model)!r}, {str(pictures / 'a two.png')!r}]); "
        "assert code == 0; assert not {'jax', 'flax', 'onnx', 'sklearn'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def test_a_file_that_takes_fractions_gives_the_same_answer(
    model: Path,
    pictures: Path,
    trained: tuple[Config, Fit],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    other = tmp_path / "float32.onnx"
    save(to_onnx(trained[0].model, trained[1].state.params, input="float32", output="logits"), other)
    answers = []
    for path in (model, other):
        assert main(["predict", str(path), str(pictures / "a two.png"), "--json"]) == 0
        answers.append(list(json.loads(capsys.readouterr().out)[0]["probabilities"].values()))
    np.testing.assert_allclose(answers[0], answers[1], atol=1e-6)
