"""Files that would hang or exhaust memory are rejected before ONNX Runtime executes them."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np
import onnx
import pytest
from helpers.networks import LARGE_AT_NIGHT, NETWORKS
from helpers.onnx_files import as_numpy, with_metadata
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, helper, numpy_helper

from mnist_jax.cli import main
from mnist_jax.config.networks import CNN, MAX_KERNEL_SIZE, MLP
from mnist_jax.data.datasets import Dataset
from mnist_jax.errors import ModelError, SpecError
from mnist_jax.nn.model import init
from mnist_onnx import Classifier, check_function_parity, check_parity, graph_limits, load, save, to_onnx
from mnist_onnx.external import check_sizes
from mnist_onnx.quantize import PRECISIONS, quantize
from mnist_onnx.session import check_probabilities, open_session

KEY = jax.random.key(0)
SPEC = MLP((), ())


def ours() -> ModelProto:
    return to_onnx(SPEC, init(SPEC, KEY))


def theirs(nodes: list[NodeProto], **tensors: np.ndarray) -> ModelProto:
    """A linear classifier that adds the sum of `c`, which the given nodes compute, to its outputs."""
    rest = [
        helper.make_node("Cast", ["c"], ["numbers"], to=TensorProto.FLOAT),
        helper.make_node("ReduceSum", ["numbers"], ["sum"], keepdims=0),
        helper.make_node("Flatten", ["x"], ["flat"]),
        helper.make_node("Gemm", ["flat", "w"], ["scores"]),
        helper.make_node("Add", ["scores", "sum"], ["y"]),
    ]
    tensors |= {"w": np.zeros((784, 10), np.float32)}
    graph = helper.make_graph(
        [*nodes, *rest],
        "theirs",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 1, 28, 28])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 10])],
        [numpy_helper.from_array(np.asarray(array), name) for name, array in tensors.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def node(operation: str, *inputs: str, **attributes: object) -> NodeProto:
    return helper.make_node(operation, inputs, ["c"], **attributes)


def body(result: str) -> GraphProto:
    """The body of a loop or branch: one constant."""
    value = numpy_helper.from_array(np.ones(1, np.float32))
    return helper.make_graph(
        [helper.make_node("Constant", [], [result], value=value)],
        "body",
        [],
        [helper.make_tensor_value_info(result, TensorProto.FLOAT, [1])],
    )


def doubling() -> ModelProto:
    """Functions that each call the previous one twice."""
    model = theirs([helper.make_node("f40", ["x"], ["c"], domain="local")])
    model.opset_import.append(helper.make_opsetid("local", 1))
    for level in range(41):
        before = ("Identity", "") if level == 0 else (f"f{level - 1}", "local")
        calls = [
            helper.make_node(before[0], [value], [result], domain=before[1])
            for value, result in (("a", "b"), ("b", "c"))
        ]
        opsets = [helper.make_opsetid("", 17), helper.make_opsetid("local", 1)]
        model.functions.append(helper.make_function("local", f"f{level}", ["a"], ["c"], calls, opsets))
    return model


def sparse() -> ModelProto:
    model = theirs([node("Identity", "s")])
    values = numpy_helper.from_array(np.ones(1, np.float32), "s")
    indices = numpy_helper.from_array(np.zeros(1, np.int64))
    model.graph.sparse_initializer.append(helper.make_sparse_tensor(values, indices, [2**31]))
    return model


ONE = np.ones(1, np.float32)
HOSTILE: dict[str, tuple[Callable[[], ModelProto], str]] = {
    "a loop of 2**62": (
        lambda: theirs([node("Loop", "times", "", body=body("again"))], times=np.array(2**62)),
        "must have no control flow, which no digit classifier needs; got 'Loop'",
    ),
    "a branch": (
        lambda: theirs(
            [node("If", "yes", then_branch=body("a"), else_branch=body("b"))], yes=np.array(True)
        ),
        "must have no control flow, .* got 'If'",
    ),
    "doubling functions": (doubling, "must have no functions of its own"),
    "another domain": (
        lambda: theirs([helper.make_node("Inverse", ["x"], ["c"], domain="com.microsoft")]),
        "must have ONNX's own operations alone; got 'Inverse' of 'com.microsoft'",
    ),
    "a sparse array": (sparse, "must have no sparse arrays"),
    "8 GB of zeros": (
        lambda: theirs([node("ConstantOfShape", "s")], s=np.array([2**31])),
        r"no arrays of more than 134,217,728 elements; got 'c' with \[2147483648\]",
    ),
    "an expanded one": (lambda: theirs([node("Expand", "a", "s")], a=ONE, s=np.array([2**36])), "got 'c'"),
    "a tiled one": (lambda: theirs([node("Tile", "a", "s")], a=ONE, s=np.array([2**36])), "got 'c'"),
    "a range": (
        lambda: theirs(
            [node("Range", "a", "b", "a")], a=np.array(1), b=np.array(2**40)
        ),
        "got 'c'",
    ),
    "a wide margin": (
        lambda: theirs([node("Pad", "x", "s")], s=np.array([0, 0, 2**20, 2**20, 0, 0, 0, 0])),
        r"got 'c' with \[1, 1048604, 1048604\]",
    ),
    "a product of two rows": (
        lambda: theirs(
            [node("MatMul", "a", "b")], a=np.ones((2**14, 1), np.float32), b=np.ones((1, 2**14), np.float32)
        ),
        "got 'c'",
    ),
    "what is doubled 40 times": (
        lambda: theirs(
            [
                *[helper.make_node("Concat", [f"c{i}"] * 2, [f"c{i + 1}"], axis=0) for i in range(40)],
                node("Identity", "c40"),
            ],
            c0=ONE,
        ),
        r"got 'c28' with \[268435456\]",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_what_no_digit_classifier_needs_is_refused(tmp_path: Path, name: str, digits: Dataset) -> None:
    make, message = HOSTILE[name]
    data, path = make().SerializeToString(), tmp_path / "theirs.onnx"
    path.write_bytes(data)
    images = digits.test.images[:1]
    for use in (
        lambda: Classifier(path, input_range="0..1"),
        lambda: check_function_parity(lambda pixels: pixels.reshape(-1, 784)[:, :10], data, images),
    ):
        with pytest.raises(ModelError, match=message):
            use()
    for use in (
        lambda: Classifier(path),
        lambda: load(path),
        lambda: check_parity(SPEC, init(SPEC, KEY), data, images),
    ):
        with pytest.raises(ModelError):
            use()


@pytest.mark.parametrize("name", HOSTILE)
def test_a_file_with_our_metadata_is_rejected_as_well(tmp_path: Path, name: str) -> None:
    model, path = HOSTILE[name][0](), tmp_path / "model.onnx"
    model.metadata_props.extend(ours().metadata_props)
    path.write_bytes(model.SerializeToString())
    with pytest.raises(ModelError, match=r"must have no|alone|no such file has this '\w+'; for a file"):
        Classifier(path)


def test_padding_that_to_onnx_never_writes_is_rejected(tmp_path: Path) -> None:
    spec, path = CNN((3,)), tmp_path / "model.onnx"
    model = to_onnx(spec, init(spec, KEY))
    Classifier(_written(path, model))
    for conv in model.graph.node:
        for attribute in conv.attribute:
            if attribute.name == "pads":
                attribute.ints[:] = [2**20] * 4
    with pytest.raises(ModelError, match="no such file has this 'Conv'"):
        Classifier(_written(path, model))


def _written(path: Path, model: ModelProto) -> Path:
    path.write_bytes(model.SerializeToString())
    return path


@pytest.mark.slow
@pytest.mark.parametrize("name", LARGE_AT_NIGHT)
def test_every_file_of_ours_is_accepted(name: str, digits: Dataset) -> None:
    spec = NETWORKS[name]
    model = to_onnx(spec, as_numpy(init(spec, KEY)))
    smaller = [quantize(model, each, images=digits.train.images[:20]) for each in PRECISIONS]
    for each in (model, *smaller):
        data = each.SerializeToString()
        graph_limits.check_ours(data)
        check_sizes(data)
        operations = [node.operation for node in graph_limits._nodes(data, "")]
        assert operations == [node.op_type for node in each.graph.node]


@pytest.mark.slow
def test_the_largest_kernel_is_accepted(tmp_path: Path, digits: Dataset) -> None:
    spec = CNN((2,), MAX_KERNEL_SIZE)
    save(to_onnx(spec, init(spec, KEY)), tmp_path / "model.onnx")
    assert Classifier(tmp_path / "model.onnx").predict(digits.test.images[:2]).shape == (2, 10)


def test_graphs_of_other_exporters_are_accepted() -> None:
    """Shape arithmetic, as PyTorch exports for a view or a class token, and resized images."""
    nodes = [
        helper.make_node("Shape", ["x"], ["shape"]),
        helper.make_node("Gather", ["shape", "zero"], ["batch"]),
        helper.make_node("Unsqueeze", ["batch", "axes"], ["batches"]),
        helper.make_node("Concat", ["batches", "rest"], ["wanted"], axis=0),
        helper.make_node("Reshape", ["x", "wanted"], ["rows"]),
        helper.make_node("ConstantOfShape", ["wanted"], ["zeros"]),
        helper.make_node("Expand", ["one", "wanted"], ["ones"]),
        helper.make_node("Resize", ["x", "", "", "sizes"], ["large"], mode="linear"),
        helper.make_node("Sum", ["rows", "zeros", "ones"], ["all"]),
        helper.make_node("Constant", [], ["five"], value_float=5.0),
        helper.make_node("Mul", ["all", "five"], ["c"]),
    ]
    sizes = {"zero": np.array(0), "axes": np.array([0]), "rest": np.array([-1]), "one": ONE}
    data = theirs(nodes, **sizes, sizes=np.array([1, 1, 224, 224])).SerializeToString()
    check_sizes(data)
    open_session(data)


@pytest.mark.slow
def test_the_parser_terminates_for_any_bytes() -> None:
    good = ours().SerializeToString()
    graph_limits.check_ours(good)
    rng = np.random.default_rng(0)
    for length in rng.integers(1, len(good), 50):
        with pytest.raises(ModelError, match="it is damaged, or not ONNX"):
            graph_limits.check_graph(good[:length])
    for data in (b"\x80" * 20, b"\x0b", b"\x3a\xff\xff\xff\xff\x7f", b"\x3a\x04\x0a\x02\x22\xff", b"\x39"):
        with pytest.raises(ModelError, match="it is damaged, or not ONNX"):
            graph_limits.check_graph(data)
    for _ in range(300):
        data = bytearray(good[:2_000])
        data[int(rng.integers(len(data)))] = int(rng.integers(256))
        try:
            graph_limits.check_graph(bytes(data))
        except ModelError as error:
            assert len(str(error).splitlines()) == 1
    with pytest.raises(ModelError, match="more than 1,000,000 fields"):
        graph_limits.check_graph(b"\x08\x00" * 1_000_001)


def test_the_parser_agrees_with_onnx() -> None:
    """Protobuf merges two graphs in one file, and the last of several values of a field wins."""
    loop = theirs([node("Loop", "times", "", body=body("again"))], times=np.array(2**62))
    data = ours().SerializeToString() + loop.SerializeToString()
    assert "Loop" in [node.op_type for node in onnx.load_from_string(data).graph.node]
    with pytest.raises(ModelError, match="must have no control flow"):
        graph_limits.check_graph(data)
    renamed = node("Relu", "x").SerializeToString() + NodeProto(op_type="Loop").SerializeToString()
    graph = b"\x0a" + bytes([len(renamed)]) + renamed
    data = b"\x3a" + bytes([len(graph)]) + graph
    assert onnx.load_from_string(data).graph.node[0].op_type == "Loop"
    with pytest.raises(ModelError, match="no such file has this 'Loop'"):
        graph_limits.check_ours(data)


def test_prediction_does_not_import_onnx(tmp_path: Path) -> None:
    path = _written(tmp_path / "model.onnx", ours())
    code = (
        "import sys, mnist_onnx, numpy\n"
        f"mnist_onnx.Classifier({str(path)!r}).predict(numpy.zeros((1, 28, 28), numpy.uint8))\n"
        "assert not {'jax', 'flax', 'onnx', 'google'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes in folders here")
def test_special_files_are_rejected(tmp_path: Path) -> None:
    pipe = tmp_path / "model.onnx"
    os.mkfifo(pipe)
    for path in (pipe, Path("/dev/zero")):
        for use in (Classifier, load, lambda path: Classifier(path, input_range="0..1")):
            with pytest.raises(
                ModelError, match="it must be an ordinary file; got a pipe, a device or a sock"
            ):
                use(path)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes in folders here")
@pytest.mark.parametrize(
    ("name", "command"),
    [
        ("config.json", "evaluate"),
        ("metrics.json", "report"),
        ("history.csv", "report"),
        ("sweep.json", "report"),
        ("checkpoint.safetensors", "evaluate"),
        ("model.onnx", "verify"),
        ("model.onnx", "serve"),
    ],
)
def test_a_pipe_in_a_run_directory_does_not_block(
    tmp_path: Path, run_dir: Path, name: str, command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    shutil.copytree(run_dir, run)
    (run / name).unlink(missing_ok=True)
    os.mkfifo(run / name)
    assert main([command, str(run)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert f"{name} " in line
    assert "it must be an ordinary file; got a pipe, a device or a socket" in line
    (run / name).unlink()
    with (run / name).open("wb") as file:
        file.truncate(2**40)
    assert main([command, str(run)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "it must have at most " in line


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes in folders here")
def test_a_pipe_among_images_or_data_does_not_block(
    tmp_path: Path, fake_mnist: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = _written(tmp_path / "model.onnx", ours())
    for name in ("pipe.png", "long.png"):
        (tmp_path / name).touch()
    (tmp_path / "pipe.png").unlink()
    os.mkfifo(tmp_path / "pipe.png")
    with (tmp_path / "long.png").open("wb") as file:
        file.truncate(2**40)
    assert main(["predict", str(path), str(tmp_path)]) == 2
    printed = capsys.readouterr().err.splitlines()
    long, pipe = (line for line in printed if "is left out" not in line)
    assert "it must have at most 268,435,456 bytes; got 1,099,511,627,776" in long
    assert "it must be an ordinary file" in pipe
    first = sorted(fake_mnist.iterdir())[0]
    first.unlink()
    with first.open("wb") as file:
        file.truncate(2**40)
    assert main(["train", "--data-dir", str(fake_mnist), "--out", str(tmp_path / "run")]) == 2
    assert f"{first} cannot be read: it must have at most" in capsys.readouterr().err.splitlines()[-1]


def test_a_file_over_the_size_limit_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    with path.open("wb") as file:
        file.truncate(2**40)  # a sparse file
    for use in (Classifier, load):
        with pytest.raises(ModelError, match="at most 2,147,483,647 bytes; got 1,099,511,627,776"):
            use(path)


ESCAPE = "\x1b[31m"
BAD_LABELS = {
    "an escape sequence": ["3" + ESCAPE, *"012456789"],
    "two lines": ["3\n4", *"012456789"],
    "a right-to-left override": ["3\u202e", *"012456789"],
    "10 MB": ["3" * 10_000_000, *"012456789"],
    "none": ["", *"012456789"],
    "ten alike": ["3"] * 10,
    "eleven": list("0123456789a"),
    "numbers": list(range(10)),
    "no list": {str(digit): digit for digit in range(10)},
}


@pytest.mark.parametrize("name", BAD_LABELS)
def test_invalid_labels_are_rejected(tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    labels = BAD_LABELS[name]
    with pytest.raises(SpecError, match="classes must be 10 names, all different, printable, of at most 200"):
        to_onnx(SPEC, init(SPEC, KEY), classes=labels)
    path = _written(tmp_path / "model.onnx", with_metadata(ours(), labels=json.dumps(labels)))
    assert main(["predict", str(path), "seven.png"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "labels in its metadata must be 10 names, all different" in line
    assert line.isprintable()
    assert len(line) < 1000


def test_labels_may_use_any_alphabet(tmp_path: Path) -> None:
    labels = [*"おきすつなはまやれ", "T-shirt/top, \u00e9"]
    path = _written(tmp_path / "model.onnx", to_onnx(SPEC, init(SPEC, KEY), classes=labels))
    assert Classifier(path).labels == labels


def test_outputs_must_match_the_metadata(tmp_path: Path, digits: Dataset) -> None:
    images, path = digits.test.images[:20], tmp_path / "model.onnx"
    params = jax.tree.map(lambda leaf: 30 * leaf, init(SPEC, KEY))
    logits = with_metadata(to_onnx(SPEC, params, output="logits"), output="probabilities")
    with pytest.raises(ModelError, match=r"must output probabilities, as it says; got -\d.*\.\.\d"):
        Classifier(_written(path, logits)).predict(images)
    sigmoid = with_metadata(to_onnx(MLP((), (), "sigmoid"), params), network_output="softmax")
    with pytest.raises(ModelError, match="probabilities that add up to 1, as it says; got"):
        Classifier(_written(path, sigmoid)).predict(images)
    over = ours()  # softmax over the batch axis, so that a single image gets ten ones
    (attribute,) = over.graph.node[-1].attribute
    attribute.i = 0
    for options in ({}, {"input_range": "0..255"}):
        if options:
            del over.metadata_props[:]
        with pytest.raises(ModelError, match="probabilities that add up to 1, as it says; got 10"):
            Classifier(_written(path, over), **options).predict(images[:1])
    for answer in ([[0.5, np.nan]], [[-0.1, 1.1]], [[0.3, 0.3]]):
        with pytest.raises(ModelError, match="must output"):
            check_probabilities(np.array(answer, np.float32), "softmax")
    check_probabilities(np.array([[-0.001, 1.001]], np.float32), "softmax")
    check_probabilities(np.array([[0.9, 0.9]], np.float32), "sigmoid")
    check_probabilities(np.zeros((0, 10), np.float32), "softmax")


def test_content_of_files_never_controls_the_terminal(
    tmp_path: Path, run_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    shutil.copytree(run_dir, run)
    for name, change in (
        ("config.json", lambda values: values | {"preset": ESCAPE}),
        ("config.json", lambda values: values | {"dataset": "digits" + "x" * 300}),
        ("metrics.json", lambda values: values | {"device": "cpu\nmnist-jax: fine"}),
        ("metrics.json", lambda values: values | {"versions": {ESCAPE: "1"}}),
        ("metrics.json", lambda values: values | {"versions": {"jax": "1" * 10_000}}),
    ):
        good = (run / name).read_bytes()
        (run / name).write_text(json.dumps(change(json.loads(good))))
        assert main(["report", str(run)]) == 2
        (run / name).write_bytes(good)
        (line,) = capsys.readouterr().err.splitlines()
        assert line.isprintable()
        assert "printable" in line
        assert len(line) < 1000
    path = _written(run / "other.onnx", with_metadata(ours(), format=ESCAPE + "9" * 10_000))
    assert main(["verify", str(path), "--run", str(run)]) == 2
    path = _written(run / "other.onnx", with_metadata(ours(), network=ESCAPE + "9" * 10_000))
    assert main(["verify", str(path), "--run", str(run)]) == 2
    assert main(["predict", str(path), f"{tmp_path}/{ESCAPE}.png"]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 3
    assert all(line.isprintable() and len(line) < 3000 for line in lines)
    assert "\\x1b[31m" in lines[-1]
