"""The public API: cost of imports, order of arguments, docstrings, and protection of the test set."""

import ast
import inspect
import subprocess
import sys
from pathlib import Path

import pytest

import mnist_jax

ROOT = Path(__file__).parents[2]
HEAVY = {
    "jax",
    "flax",
    "optax",
    "numpy",
    "onnx",
    "onnxruntime",
    "sklearn",
    "tensorflow_datasets",
    "rich",
    "typer",
    "matplotlib",
    "jinja2",
    "scipy",
}


def loaded_after(code: str) -> set[str]:
    """The top-level packages that are imported after `code`, in a new process; nothing may be printed."""
    program = f"{code}\nimport sys; sys.stderr.write(' '.join(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout == ""
    return {name.split(".")[0] for name in done.stderr.split()}


def test_importing_the_packages_imports_no_heavy_dependency() -> None:
    for code in (
        "import mnist_jax",
        "import mnist_onnx",
        "from mnist_jax import MLP, Config, HyperParams, PRESETS",
    ):
        assert not loaded_after(code) & HEAVY


def test_the_classifier_needs_neither_jax_nor_flax_nor_onnx(tmp_path: Path) -> None:
    from mnist_jax.nn.model import init
    from mnist_onnx import save, to_onnx

    spec = mnist_jax.MLP((5,), ("relu",))
    import jax

    save(to_onnx(spec, init(spec, jax.random.key(0))), tmp_path / "model.onnx")
    code = (
        "import numpy; from mnist_onnx import Classifier; "
        f"assert Classifier({str(tmp_path / 'model.onnx')!r}).predict("
        "numpy.zeros((2, 28, 28), numpy.uint8)).shape == (2, 10)"
    )
    assert not loaded_after(code) & {"jax", "jaxlib", "flax", "optax", "onnx", "jaxtyping"}


def test_exporting_numpy_parameters_needs_neither_jax_nor_flax() -> None:
    code = (
        "import numpy as np; from mnist_jax import MLP; from mnist_onnx import to_onnx; "
        "layer = lambda i, o: {'kernel': np.zeros((i, o), 'f4'), 'bias': np.zeros(o, 'f4')}; "
        "to_onnx(MLP((5,), ('relu',)), {'Dense_0': layer(784, 5), 'Dense_1': layer(5, 10)})"
    )
    assert not loaded_after(code) & {"jax", "jaxlib", "flax", "optax", "onnxruntime", "jaxtyping"}


def test_importing_changes_neither_the_environment_nor_the_jax_config() -> None:
    code = """
import os, jax
before = dict(os.environ), dict(jax.config.values)
import mnist_jax, mnist_onnx
for name in mnist_jax.__all__: getattr(mnist_jax, name)
for name in mnist_onnx.__all__: getattr(mnist_onnx, name)
assert (dict(os.environ), dict(jax.config.values)) == before
"""
    loaded_after(code)


def test_public_names_equal_those_for_type_checkers() -> None:
    stub = ast.parse((ROOT / "mnist_jax" / "__init__.pyi").read_text())
    stub_names = {
        alias.asname for node in stub.body if isinstance(node, ast.ImportFrom) for alias in node.names
    }
    assert stub_names == set(mnist_jax.__all__) == set(dir(mnist_jax))
    for name in mnist_jax.__all__:
        assert getattr(mnist_jax, name) is not None
    with pytest.raises(AttributeError, match="attribute nothing"):
        _ = mnist_jax.nothing


# Static arguments come first, then the key, then arrays, then options by name.
ORDER = (
    "config",
    "spec",
    "hyperparams",
    "key",
    "state",
    "params",
    "model",
    "images",
    "train",
    "validation",
    "batch",
    "examples",
)


def public_callables() -> list[tuple[str, object]]:
    import mnist_onnx

    names = [(name, getattr(mnist_jax, name)) for name in mnist_jax.__all__]
    names += [(name, getattr(mnist_onnx, name)) for name in mnist_onnx.__all__]
    return [(name, thing) for name, thing in names if inspect.isfunction(thing) or inspect.isclass(thing)]


PUBLIC_FUNCTIONS = [(name, thing) for name, thing in public_callables() if inspect.isfunction(thing)]


@pytest.mark.parametrize(("name", "function"), PUBLIC_FUNCTIONS)
def test_public_functions_share_one_order_of_arguments(name: str, function: object) -> None:
    parameters = inspect.signature(function).parameters.values()
    positional = [p.name for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD and p.name in ORDER]
    assert positional == sorted(positional, key=ORDER.index), name
    assert "rng" not in {p.name for p in parameters}


@pytest.mark.parametrize(("name", "function"), public_callables())
def test_public_names_have_an_example_in_their_docstring(name: str, function: object) -> None:
    assert ">>>" in (inspect.getdoc(function) or ""), name


def test_the_test_set_is_a_separate_type() -> None:
    assert not issubclass(mnist_jax.TestSet, mnist_jax.Examples)
    assert not issubclass(mnist_jax.Examples, mnist_jax.TestSet)


@pytest.mark.slow
def test_the_type_checker_rejects_training_on_the_test_set(tmp_path: Path) -> None:
    (tmp_path / "leak.py").write_text(
        "import jax, mnist_jax\n"
        "data = mnist_jax.load('digits')\n"
        "config = mnist_jax.Config(mnist_jax.MLP((), ()))\n"
        "mnist_jax.fit(config, data.train, data.validation, key=jax.random.key(0))\n"
        "mnist_jax.fit(config, data.test, key=jax.random.key(0))\n"
        "mnist_jax.fit(config, data.train, data.test, key=jax.random.key(0))\n"
    )
    command = [
        sys.executable,
        "-m",
        "mypy",
        "--config-file",
        str(ROOT / "pyproject.toml"),
        str(tmp_path / "leak.py"),
    ]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    lines = [line.split(":")[1] for line in done.stdout.splitlines() if 'incompatible type "TestSet"' in line]
    assert lines == ["5", "6"], done.stdout
