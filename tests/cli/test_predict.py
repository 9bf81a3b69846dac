import csv
import io
import json
import os
import re
import shutil
import signal
import struct
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from helpers.pictures import drawing
from PIL import Image

from mnist_jax.cli import main, predict_input
from mnist_jax.config.training import Config
from mnist_jax.data.datasets import Dataset
from mnist_jax.data.preprocess import prepare
from mnist_jax.training.records import FitResult
from mnist_onnx import Classifier, save, to_onnx


@pytest.fixture
def model(trained: tuple[Config, FitResult], tmp_path: Path) -> Path:
    save(to_onnx(trained[0].model, trained[1].state.params), tmp_path / "model.onnx")
    return tmp_path / "model.onnx"


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """A folder with a two, a blank page, a file that is not an image, and a file with another suffix."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    drawing().save(folder / "a two.png")
    Image.new("L", (50, 50), 255).save(folder / "blank.jpg")
    (folder / "damaged.webp").write_bytes(b"RIFF")
    (folder / "notes.txt").write_text("")
    (folder / "._a two.png").write_bytes(b"what macOS keeps beside a file")
    return folder


def test_a_picture_gets_the_networks_prediction(
    model: Path, pictures: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    expected = Classifier(model).predict(prepare(drawing())[None])[0]
    assert main(["predict", str(model), str(pictures / "a two.png"), "--json"]) == 0
    (result,) = json.loads(capsys.readouterr().out)
    np.testing.assert_allclose(list(result["probabilities"].values()), expected, atol=1e-6)
    assert result["label"] == str(expected.argmax())
    assert main(["predict", str(model.parent), str(pictures / "a two.png"), "--show"]) == 0  # a run directory
    first, *shown = capsys.readouterr().out.rstrip("\n").split("\n")
    assert first.startswith(
        f"{pictures / 'a two.png'}: {expected.argmax()} ({100 * expected.max():.2f} %; then"
    )
    assert [len(line) for line in shown] == [56] * 28
    assert "█" in "".join(shown)


def test_each_picture_gets_a_prediction_or_an_error(
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
    assert len(printed.err.splitlines()) == 3  # and the file that is no picture
    assert "notes.txt is left out: .txt is not a picture's" in printed.err
    assert main(["predict", str(model), str(pictures), "--json"]) == 2
    assert ["error" in answer for answer in json.loads(capsys.readouterr().out)] == [False, True, True]


def test_the_prepared_picture_can_be_saved(model: Path, pictures: Path, tmp_path: Path) -> None:
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
    result = [list(answer["probabilities"].values()) for answer in json.loads(done.stdout)]
    np.testing.assert_allclose(result, Classifier(model).predict(images), atol=1e-6)


def test_predicting_leaves_no_files(model: Path, pictures: Path, tmp_path: Path) -> None:
    """By default onnxruntime writes a device id to the user's cache directory."""
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


def npy(
    shape: str, dtype: str = "'|u1'", *, header: str | None = None, version: bytes = b"\1\0",
    content: bytes = bytes(784),
) -> bytes:  # fmt: skip
    """Builds a .npy file with an arbitrary header."""
    text = header or f"{{'descr': {dtype}, 'fortran_order': False, 'shape': {shape}, }}"
    text += " " * (-len(text) % 64) + "\n"
    return b"\x93NUMPY" + version + struct.pack("<H", len(text)) + text.encode() + content


HEADERS = (
    "{[]: 1}", "'unclosed", "{'descr': '|u1'", "\0", "(" * 9_000, "-" * 9_000 + "1", "{" * 500, "L" * 50,
    "{'descr': '|u1', 'fortran_order': False, 'shape': (28L, 28L", "   x\n y", "{}", "[]", "1", "é", "f()",
)  # fmt: skip


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "or 784 bytes per image; got 0 bytes"),
        (bytes(785), "got 785 bytes"),
        (b"\x93NUMPY", "must be a complete .npy file"),
        (object_array(), "must hold uint8 [28, 28] or [n, 28, 28]; got object"),
        (npy("(2**64, 28, 28)"), "must be a complete .npy file of numbers; its header: "),
        (npy(f"({2**64}, 28, 28)"), "14,462,247,353,788,288,466,944 bytes by its header; got 784"),
        (npy("(1000000000, 28, 28)"), "784,000,000,000 bytes by its header; got 784"),
        (npy("(2, 28, 28)"), "1,568 bytes by its header; got 784"),
        (npy("(0, 28, 28)"), "0 bytes by its header; got 784"),
        (npy("(True, 28, 28)"), "a shape must be whole numbers; got (True, 28, 28)"),
        (npy("(-1, 28, 28)"), "a shape must be whole numbers; got (-1, 28, 28)"),
        (npy("(1.0, 28, 28)"), "shape is not valid"),
        (npy("(28, 28)", "'O'"), "got object [28, 28]"),
        (npy("(28, 28)", "[('a', '|u1')]"), "got [('a', 'u1')] [28, 28]"),
        (npy("(28, 28)", "'|u1'" * 9_999), "its header: Header info length"),
        (npy("(28, 28)", version=b"\3\0"), "its header: "),
        (npy("(28, 28)", version=b"\1\1"), "its header: "),
        (npy("(28, 28)")[:40], "its header: EOF"),
        *(
            (npy("", header=text), "must be a complete .npy file of numbers; its header: ")
            for text in HEADERS
        ),
    ],
)
def test_invalid_stdin_is_refused(
    model: Path,
    data: bytes,
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(data)))
    assert main(["predict", str(model), "--stdin"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line
    assert len(line) < 1_000


def test_stdin_takes_a_header_in_any_order_and_pictures_by_columns(
    model: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], digits: Dataset
) -> None:
    images = np.asarray(digits.test.images[:3])
    expected = Classifier(model).predict(images)
    data = npy(
        "", header="{'shape':(3,28,28),'fortran_order':True,'descr':'<u1'}", content=images.tobytes("F")
    )
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(data)))
    assert main(["predict", str(model), "--stdin", "--json"]) == 0
    result = [list(answer["probabilities"].values()) for answer in json.loads(capsys.readouterr().out)]
    np.testing.assert_allclose(result, expected, atol=1e-6)


def test_endless_stdin_is_refused(
    model: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(predict_input, "LARGEST_STDIN", 10_000)
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(bytes(784 * 100))))
    assert main(["predict", str(model), "--stdin"]) == 2
    assert "stdin must hold at most 10,000 bytes; got more" in capsys.readouterr().err


def test_mistakes_are_one_line(
    model: Path, pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    two = str(pictures / "a two.png")
    (tmp_path / "empty").mkdir()
    for arguments, message in (
        ([str(model)], "pictures or --stdin; got neither"),
        ([str(model), two, "--stdin"], "pictures and --stdin"),
        (
            [str(model), "nowhere.png"],
            "nowhere.png must be a PNG, JPEG, WebP, BMP, TIFF or GIF picture; No such",
        ),
        ([str(model), str(tmp_path / "empty")], "must hold pictures (.bmp, .gif, "),
        (["nowhere.onnx", two], "nowhere.onnx must be an ONNX file; it cannot be read"),
        ([str(pictures), two], "model.onnx must be an ONNX file; it cannot be read"),
        (
            [str(model), two, two, "--save-prepared", "x.png"],
            "--save-prepared takes exactly one picture; got 2",
        ),
        ([str(model), two, "--save-prepared", "x.jpg"], "must name a .png file; got x.jpg"),
        ([str(model), two, "--several", "--annotate", two], "must not overwrite a picture that is read"),
        ([str(model), two, "--explain", "nowhere/x.html"], "must name a file in an existing folder; got"),
        ([str(model), two, "--annotate", "x.png"], "--annotate needs --several"),
        ([str(model), two, "--several", "--save-prepared", "x.png"], "takes one digit; got --several"),
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


def test_a_float32_file_gives_the_same_prediction(
    model: Path,
    pictures: Path,
    trained: tuple[Config, FitResult],
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


def test_hidden_files_are_named_where_asked_for(
    model: Path, pictures: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["predict", str(model), str(pictures)]) == 2
    assert "._a two.png" not in capsys.readouterr().err
    assert main(["predict", str(model), str(pictures), "-v"]) == 2
    assert "._a two.png is hidden; left out" in capsys.readouterr().err


def test_all_digits_of_a_page_are_read_and_drawn(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = Image.new("L", (700, 300), 255)
    for left in (60, 260, 460):
        page.paste(drawing(200), (left, 50))
    page.save(tmp_path / "page.png")
    shown = tmp_path / "shown.png"
    command = ["predict", str(model), str(tmp_path / "page.png"), "--several"]
    assert main([*command, "--json", "--annotate", str(shown)]) == 0
    answers = json.loads(capsys.readouterr().out)
    expected = str(Classifier(model).predict(prepare(drawing())[None])[0].argmax())
    assert [(answer["row"], answer["label"]) for answer in answers] == [(0, expected)] * 3
    lefts = [answer["box"][0] for answer in answers]
    np.testing.assert_allclose(np.diff(lefts), 200 / 700, atol=0.01)
    red = np.asarray(Image.open(shown)).astype(int)
    assert (red[..., 0] - red[..., 1] > 100).sum() > 1_000
    assert main(command) == 0
    assert len(capsys.readouterr().out.splitlines()) == 3
    assert main(["predict", str(model), str(tmp_path / "page.png")]) == 2
    assert "got 3 separate shapes; cut it into one picture each, or read all" in capsys.readouterr().err


def test_each_step_is_explained(model: Path, pictures: Path, tmp_path: Path) -> None:
    page = tmp_path / "steps.html"
    assert main(["predict", str(model), str(pictures), "--explain", str(page)]) == 2
    text = page.read_text()
    assert text.count("<h2>") == 3
    assert text.count('alt="framed"') == 1
    assert "got a blank one" in text


def test_a_page_without_digits_is_explained_and_not_annotated(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Image.new("L", (300, 200), 240).save(tmp_path / "the", "PNG")
    shown, page = tmp_path / "shown.png", tmp_path / "steps.html"
    command = ["predict", str(model), str(tmp_path / "the"), "--several"]
    assert main([*command, "--annotate", str(shown), "--explain", str(page)]) == 2
    error = capsys.readouterr().err
    assert f"{tmp_path / 'the'}: the picture must show a digit" in error
    assert "shown.png is not written" in error
    assert not shown.exists()
    assert page.read_text().count("<img") == 3


def test_one_picture_given_twice_has_its_own_answers(model: Path, pictures: Path, tmp_path: Path) -> None:
    two, page = str(pictures / "a two.png"), tmp_path / "steps.html"
    assert main(["predict", str(model), two, two, "--several", "--explain", str(page)]) == 0
    assert ";" not in "".join(re.findall(r"<p>(.*?)</p>", page.read_text()))


def folder_of_sixty(tmp_path: Path) -> Path:
    folder = tmp_path / "sixty"
    folder.mkdir()
    for number in range(60):
        drawing().save(folder / f"{number:02}.png")
    return folder


@pytest.mark.slow
def test_a_large_folder_is_read_by_processes_in_order(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = folder_of_sixty(tmp_path)
    (folder / "30.png").write_bytes(b"no picture")
    assert main(["predict", str(model), str(folder), "--csv"]) == 2
    captured = capsys.readouterr()
    rows = captured.out.splitlines()[1:]
    assert [Path(row.split(",")[0]).name for row in rows] == [f"{number:02}.png" for number in range(60)]
    assert [number for number, row in enumerate(rows) if "it is not one" in row] == [30]
    assert "60 of 60 pictures" in captured.err


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="signals")
@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_ends_the_workers_too(model: Path, tmp_path: Path, number: int, code: int) -> None:
    folder = folder_of_sixty(tmp_path)
    for copy in range(10):
        for path in list(folder.glob("[0-9][0-9].png")):
            shutil.copy(path, folder / f"{copy}-{path.name}")
    command = [sys.executable, "-m", "mnist_jax.cli", "predict", str(model), str(folder)]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True, text=True
    )
    assert process.stderr is not None
    assert "50 of 660 pictures" in process.stderr.readline()
    process.send_signal(number)
    # Workers hold the pipes open, and `communicate` would wait for those that live on.
    try:
        _, error = process.communicate(timeout=30)
    finally:
        process.kill()
        process.stderr.close()
    assert process.returncode == code
    assert "Traceback" not in error


def test_an_unsure_answer_says_so(
    model: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    noise = np.full((1, 28, 28), 90, np.uint8)
    assert Classifier(model).predict(noise).max() < 0.8
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(noise.tobytes())))
    assert main(["predict", str(model), "--stdin"]) == 0
    assert "; the network is unsure)" in capsys.readouterr().out
