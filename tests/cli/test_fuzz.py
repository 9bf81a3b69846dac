"""Fuzzing: whatever a file or a command line holds, the result is an exit code and at most one line."""

import contextlib
import gzip
import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np
import pytest
import safetensors.numpy
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import mnist_jax
from mnist_jax._utils.text import MAX_LINE_LENGTH, printable
from mnist_jax.cli import console, main
from mnist_jax.cli.console import proof
from mnist_jax.cli.report import command
from mnist_jax.config.networks import MLP
from mnist_jax.config.optimizers import Optimizer, Schedule
from mnist_jax.config.serialization import from_json, to_json
from mnist_jax.config.training import Config
from mnist_jax.config.validation import is_label
from mnist_jax.data.examples import Examples
from mnist_jax.data.formats import idx
from mnist_jax.errors import DatasetError, MnistJaxError, SpecError
from mnist_jax.runs import directory, results, session
from mnist_jax.runs.loading import load_params
from mnist_jax.runs.sweeps import sweep_results
from mnist_jax.training import checkpoint
from mnist_onnx import Classifier

pytestmark = pytest.mark.slow
FUZZ = settings(
    max_examples=150,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("fuzz") / "run"
    assert (
        main(
            [
                "train",
                "--dataset",
                "digits",
                "--preset",
                "mlp-50-50-sigmoid",
                "--epochs",
                "1",
                "--out",
                str(folder),
            ]
        )
        == 0
    )
    return folder


def ends_well(arguments: list[str]) -> int:
    """Runs a command in this process, so that unexpected exceptions propagate."""
    errors = io.StringIO()
    with contextlib.redirect_stderr(errors), contextlib.redirect_stdout(io.StringIO()):
        code = main(arguments)
    assert code in (0, 1, 2)
    message = [line for line in errors.getvalue().splitlines() if line.startswith("mnist-jax:")]
    assert len(message) == (code == 2), errors.getvalue()
    return code


@st.composite
def damaged(draw: st.DrawFn, data: bytes) -> bytes:
    """Changes, removes or truncates bytes."""
    changed = bytearray(data)
    for _ in range(draw(st.integers(1, 4))):
        # Half of the damage hits the start of the file, where the headers are.
        top = draw(st.sampled_from([min(len(changed), 2_000), len(changed)])) - 1
        position = draw(st.integers(0, max(top, 0)))
        kind = draw(st.sampled_from(["flip", "set", "cut", "end"]))
        if kind == "flip" and changed:
            changed[position] ^= 1 << draw(st.integers(0, 7))
        elif kind == "set" and changed:
            changed[position] = draw(st.integers(0, 255))
        elif kind == "cut":
            del changed[position : position + draw(st.integers(1, 50))]
        else:
            del changed[position:]
    return bytes(changed)


@pytest.mark.parametrize("name", ["config.json", "metrics.json", "checkpoint.safetensors", "model.onnx"])
def test_a_damaged_run_directory(run_dir: Path, tmp_path: Path, name: str) -> None:
    original = (run_dir / name).read_bytes()
    commands = {"model.onnx": ("verify",), "metrics.json": ("export",)}.get(
        name, ("evaluate", "export", "verify")
    )

    @FUZZ
    @given(damaged(original), st.sampled_from(commands))
    def check(data: bytes, command: str) -> None:
        copy = tmp_path / "run"
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(run_dir, copy)
        (copy / name).write_bytes(data)
        code = ends_well([command, str(copy)])
        if name == "checkpoint.safetensors" and data != original:
            assert code == 2  # the checksum covers all of it

    check()


def test_a_damaged_onnx_file_never_predicts_differently(run_dir: Path, tmp_path: Path) -> None:
    """`verify` accepts only files that compute the same function."""
    import onnxruntime as ort

    original = (run_dir / directory.MODEL).read_bytes()
    images = np.random.default_rng(1).integers(0, 256, (300, 1, 28, 28), np.uint8)
    (expected,) = ort.InferenceSession(original).run(None, {"images": images})

    @FUZZ
    @given(damaged(original))
    def check(data: bytes) -> None:
        path = tmp_path / "model.onnx"
        path.write_bytes(data)
        if ends_well(["verify", str(path), "--run", str(run_dir)]) == 0:
            (result,) = ort.InferenceSession(data).run(None, {"images": images})
            np.testing.assert_allclose(result, expected, atol=2e-4)

    check()


@FUZZ
@given(data=st.data())
def test_damaged_idx_files(data: st.DataObject) -> None:
    array = np.arange(60, dtype=np.uint8).reshape(5, 3, 4)
    content = data.draw(damaged(idx.encode(array)))
    try:
        result = idx.decode(content, 3)
    except DatasetError:
        return
    assert result.size + 16 == len(content)


def test_damaged_data_files(fake_mnist: Path) -> None:
    paths = sorted(fake_mnist.iterdir())
    good = {path: path.read_bytes() for path in paths}

    @FUZZ
    @given(st.data(), st.sampled_from(paths), st.booleans())
    def check(data: st.DataObject, path: Path, unzip: bool) -> None:
        for other, content in good.items():
            other.write_bytes(content)
        raw = path.with_suffix("")
        raw.unlink(missing_ok=True)
        if unzip:
            path.unlink()
            content = gzip.decompress(good[path])
            raw.write_bytes(changed := data.draw(damaged(content)))
        else:
            content = good[path]
            path.write_bytes(changed := data.draw(damaged(content)))
        code = ends_well(
            ["train", "--data-dir", str(fake_mnist), "--epochs", "x" if changed == content else "1"]
        )
        assert code == 2
        raw.unlink(missing_ok=True)

    check()


WORDS = st.one_of(
    st.sampled_from(
        [
            "--preset",
            "--dataset",
            "--data-dir",
            "--epochs",
            "--batch-size",
            "--learning-rate",
            "--seed",
            "--out",
            "--json",
            "--resume",
            "--run",
            "--input",
            "--output",
            "--csv",
            "--stdin",
            "--show",
            "--seeds",
            "--weight-decay",
            "--optimizer",
            "--schedule",
            "--clip-norm",
            "--ema-decay",
            "sgd:momentum=0.5",
            "piecewise:boundaries=0.1/0.2",
            "adam:b1=",
            "--label-smoothing",
            "--fgsm-epsilon",
            "--validation-fraction",
            "-h",
            "--",
            "-",
            ".",
            "/",
            "~",
            "~x",
            "''",
            "mlp-100",
            "mnist",
            "kmnist",
            "nan",
            "inf",
            "-inf",
            "1e999",
            "0",
            "-1",
            "1",
            "99999999999999999999",
            "1.5",
            "true",
            "null",
            "None",
            "uint8",
            "logits",
        ]
    ),
    st.text(max_size=8).filter(lambda text: "\0" not in text),
)


def test_random_command_lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fake_mnist: Path) -> None:
    """No argument names an existing run or data set, so each command line fails or shows help."""
    monkeypatch.chdir(tmp_path)
    shutil.rmtree(fake_mnist)
    monkeypatch.setenv("MNIST_JAX_DATA_DIR", str(tmp_path / "nowhere"))
    commands = st.sampled_from(
        ["train", "evaluate", "export", "verify", "predict", "presets", "reproduce", "", "--"]
    )

    @settings(FUZZ, max_examples=500)
    @given(commands, st.lists(WORDS, max_size=6).filter(lambda words: "digits" not in words))
    def check(command: str, words: list[str]) -> None:
        if command == "predict" and "--stdin" in words:
            words = [word for word in words if word != "--stdin"]  # pytest replaces stdin
        ends_well([command, *words])
        assert not (tmp_path / "runs").exists()

    check()


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@settings(FUZZ, max_examples=500)
@given(st.data())
def test_random_configs_are_refused_or_survive(data: st.DataObject) -> None:
    """Replaces one value of a valid config, at any depth, by any JSON value."""
    config = Config(MLP((5,), ("relu",)), optimizer=Optimizer("sgd"), schedule=Schedule("piecewise"))
    values = node = to_json(config)
    while True:
        name = data.draw(st.sampled_from(sorted(node)))
        if not isinstance(node[name], dict) or not node[name] or data.draw(st.booleans()):
            break
        node = node[name]
    node[name] = data.draw(JSON)
    try:
        result = from_json(values)
    except SpecError as error:
        assert len(str(error).splitlines()) == 1
        return
    assert hash(result) is not None
    assert from_json(json.loads(json.dumps(to_json(result)))) == result


EXTREMES = st.sampled_from(
    [float("nan"), float("inf"), -1, 2**64, 10**400, True, None, "", "\x1b[31m", "x" * 9_999, [], {}, "1"]
)


def nested(depth: int) -> list[object]:
    value: list[object] = []
    for _ in range(depth):
        value = [value]
    return value


@st.composite
def changed(draw: st.DrawFn, values: dict[str, object]) -> dict[str, object]:
    """Removes one value, at any depth, or replaces it by any JSON value."""
    values = node = json.loads(json.dumps(values))
    while True:
        places = range(len(node)) if isinstance(node, list) else sorted(node)
        place = draw(st.sampled_from(list(places)))
        if not isinstance(node[place], dict | list) or not node[place] or draw(st.booleans()):
            break
        node = node[place]
    if draw(st.integers(0, 9)) == 0:
        del node[place]
    else:
        node[place] = draw(st.one_of(EXTREMES, JSON, st.sampled_from([40, 90]).map(nested)))
    return values


def one_line(function: Callable[[], object]) -> None:
    try:
        function()
    except MnistJaxError as error:
        line = printable(str(error))
        assert line.isprintable()
        assert "\n" not in str(error)
        assert len(line) <= MAX_LINE_LENGTH + 3


@pytest.mark.parametrize("name", ["config.json", "config.json of own data", "metrics.json", "sweep.json"])
def test_a_changed_value_in_a_runs_json(run_dir: Path, tmp_path: Path, name: str) -> None:
    name, _, own_data = name.partition(" of ")
    copy = tmp_path / "run"
    shutil.copytree(run_dir, copy)
    hyperparams, params = directory.read(copy).hyperparams, load_params(copy, directory.read(copy))
    rows = [
        {**hyperparams._asdict(), "accuracies": [0.5, None]},
        {**hyperparams._asdict(), "accuracies": [0.5, 0.6]},
    ]
    sweep = {"format": 2, "seeds": 2, "rows": rows, "best": 1}
    good = sweep if name == sweep_results.SWEEP else json.loads((copy / name).read_bytes())
    if own_data:  # with all that a run can have
        data = {"path": "a.csv", "test_path": None, "test_fraction": 0.2, "seed": 0, "classes": None}
        flags = dict.fromkeys(("invert", "resize", "transposed"), False)
        stopping = {"early_stopping": 3, "keep_best": True, "monitor": "loss"}
        good |= {"classes": list("abcdefghij"), "data": data | flags, **stopping}

    def read() -> None:
        run = directory.read(copy)
        result = results.read(copy, params, run.config.model)
        assert result.onnx is None or proof(result.onnx)
        assert all(map(is_label, [result.device, *result.versions, *result.versions.values()]))
        sweep_results.read_sweep_table(copy)
        assert is_label(run.preset)
        assert is_label(run.dataset)
        command(run, len(result.history))
        if not own_data:
            load_params(copy, run)

    @settings(FUZZ, max_examples=300)
    @given(changed(good))
    def check(values: dict[str, object]) -> None:
        (copy / name).write_text(json.dumps(values))
        one_line(read)

    (copy / name).write_text(json.dumps(good))
    read()
    check()


def test_a_changed_value_in_a_checkpoints_header(run_dir: Path, tmp_path: Path) -> None:
    """With a valid checksum, as an attacker would write it."""
    copy, path = tmp_path / "run", tmp_path / "run" / directory.CHECKPOINT
    shutil.copytree(run_dir, copy)
    run = directory.read(copy)
    flat, good = checkpoint._read(path)

    def read() -> None:
        load_params(copy, run)
        begin = session.newest(copy, run, console.print_status)
        directory.write_history(copy, begin.history)

    @settings(FUZZ, max_examples=300)
    @given(changed({name: good[name] for name in good if name != "sha256"}))
    def check(values: dict[str, object]) -> None:
        write_checkpoint(path, flat, values)
        one_line(read)

    check()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(
            ("format", value)
            for value in (float("inf"), float("nan"), "1", True, 0, -1, 3, 10**400, None, [])
        ),
        *(("key_impl", value) for value in ("", "x" * 9_999, "rbg", None, 5, [], {}, "\x1b[31m")),
        ("sha256", "0"),
        ("run", None),
        ("run", []),
        ("history", None),
        ("history", [{}]),
        ("history", "abc"),
        ("history", {"a": 1}),
        ("history", 5),
    ],
)
def test_each_field_of_a_checkpoints_header(
    run_dir: Path, tmp_path: Path, name: str, value: object, capsys: pytest.CaptureFixture[str]
) -> None:
    copy, path = tmp_path / "run", tmp_path / "run" / directory.CHECKPOINT
    shutil.copytree(run_dir, copy)
    flat, good = checkpoint._read(path)
    del good["sha256"]
    for header in (good | {name: value}, {key: good[key] for key in good if key != name}):
        write_checkpoint(path, flat, header)
        if name == "sha256" and "sha256" not in header:
            continue
        assert main(["train", "--resume", str(copy), "--epochs", "2"]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert f"{path} " in line


def write_checkpoint(path: Path, flat: dict[str, np.ndarray], header: dict[str, object]) -> None:
    header = {"sha256": checkpoint._digest(flat, header), **header}
    path.write_bytes(safetensors.numpy.save(flat, {"mnist_jax": json.dumps(header)}))


NUMBERS = st.sampled_from(["u1", "i1", "i8", "f2", "f4", "f8", "c8", "?", "O", "U3", "M8[s]"])
SHAPES = st.lists(st.sampled_from([0, 1, 2, 3, 27, 28, 784]), max_size=4).filter(
    lambda shape: np.prod(shape, dtype=float) < 1e6
)
FILLINGS = st.sampled_from([0, 1, 9, 255, -1, 0.5, 1e9, np.nan, np.inf])


@st.composite
def arrays(draw: st.DrawFn) -> np.ndarray:
    """Arrays of any shape and dtype, often nearly valid."""
    shape = draw(st.one_of(SHAPES, st.sampled_from([[2, 28, 28], [2], [28, 28], [28, 28, 3]])))
    with np.errstate(invalid="ignore", over="ignore"):
        return np.full(shape, draw(FILLINGS)).astype(draw(st.one_of(NUMBERS, st.sampled_from(["u1", "f4"]))))


@pytest.mark.usefixtures("unchecked")
@pytest.mark.filterwarnings("ignore")
def test_random_arrays_are_refused_or_classified(run_dir: Path) -> None:
    spec = MLP((5,), ("relu",))
    config = Config(spec, epochs=1, batch_size=1)
    params = mnist_jax.init(spec, jax.random.key(0))
    classifier = Classifier(run_dir / directory.MODEL)

    def fit(images: object, labels: object) -> float:
        return mnist_jax.fit(config, Examples(images, labels), key=jax.random.key(0)).history[0].loss

    functions = {
        "apply": lambda images, _: mnist_jax.apply(spec, params, images),
        "classify": lambda images, _: classifier.predict(images),
        "prepare": lambda images, _: mnist_jax.preprocess.prepare(images),
        "evaluate": lambda images, labels: mnist_jax.evaluate(spec, params, Examples(images, labels)).loss,
        "fit": fit,
    }

    @FUZZ
    @given(st.sampled_from(sorted(functions)), arrays(), arrays())
    def check(name: str, images: np.ndarray, labels: np.ndarray) -> None:
        try:
            functions[name](images, labels)
        except MnistJaxError as error:
            assert len(str(error).splitlines()) == 1

    check()
