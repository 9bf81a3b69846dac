"""The house rules, as tests: what imports what, what an import does, how functions are called."""

import ast
import inspect
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import mnist_jax
from mnist_jax import types

ROOT = Path(__file__).parents[1]
MODULES = {
    ".".join(path.relative_to(base).with_suffix("").parts): path
    for base in (ROOT, ROOT / "export")
    for package in ("mnist_jax", "mnist_onnx")
    for path in sorted((base / package).rglob("*.py"))
}
# Each module, and those of ours that it may import: the arrows of the architecture, top to bottom.
LEAVES = {
    "errors",
    "sources",
    "files",
    "arrays",
    "settings",
    "optimizers",
    "deformations",
    "networks",
    "specs",
    "presets",
    "checks",
    "idx",
}
LAYERS: dict[str, set[str]] = {
    "errors": {"loop", "train"},  # for a type alone
    "sources": set(),
    "files": set(),
    "arrays": set(),
    "settings": {"errors"},
    "optimizers": {"errors", "settings"},
    "networks": {"errors", "settings"},
    "deformations": {"errors", "settings"},
    "specs": {"deformations", "errors", "networks", "optimizers", "settings"},
    "presets": {"deformations", "networks", "optimizers", "settings", "specs"},
    "checks": {"arrays", "errors", "networks", "specs"},
    "idx": {"errors"},
    "types": set(),
    "convolution": {"networks", "types"},
    "machine": set(),
    "fetch": {"errors", "sources"},
    "store": {"idx", "errors", "fetch", "files", "sources"},
    "datasets": {
        "idx",
        "sources",
        "store",
        "checks",
        "errors",
        "networks",
        "prepare",
        "settings",
        "specs",
        "types",
    },
    "prepare": {"errors"},
    "models": {"checks", "convolution", "errors", "networks", "settings", "types"},
    "augment": {"checks", "deformations", "models", "networks", "types"},
    "adversarial": {"checks", "models", "types"},
    "metrics": {"networks", "types"},
    "evaluation": {"checks", "metrics", "models", "networks", "settings", "types"},
    "updates": {"errors", "optimizers", "specs", "types"},
    "train": {
        "adversarial",
        "augment",
        "checks",
        "errors",
        "metrics",
        "models",
        "settings",
        "specs",
        "types",
        "updates",
    },
    "loop": {"checks", "errors", "evaluation", "specs", "train", "types"},
    "sweep": {
        "checks",
        "errors",
        "evaluation",
        "loop",
        "models",
        "networks",
        "settings",
        "specs",
        "train",
        "types",
    },
    "checkpoint": {"arrays", "errors", "files", "train"},
    "runs": {"errors", "specs", "files", "loop"},
    "results": {"errors", "loop", "networks", "runs", "settings", "specs"},
    "inspection": {"errors", "models", "networks", "types"},
    "robustness": {"augment", "checks", "errors", "models", "types"},
    "canvas": set(),
    "mosaics": {"canvas", "errors", "networks", "sources"},
    "plots": {
        "canvas",
        "errors",
        "loop",
        "metrics",
        "mosaics",
        "networks",
        "results",
        "robustness",
        "sources",
    },
    "pages": {"canvas"},
    "report": {
        "augment",
        "datasets",
        "inspection",
        "metrics",
        "models",
        "networks",
        "pages",
        "plots",
        "results",
        "robustness",
        "runs",
        "types",
    },
    "comparison": {"datasets", "pages", "plots", "results", "runs"},
}
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


def imports(path: Path) -> Iterator[str]:
    """The full names that a file imports, wherever in it."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def ours(path: Path) -> set[str]:
    """The modules of mnist_jax that a file imports."""
    names = {name.split(".")[1] for name in imports(path) if name.startswith("mnist_jax.")}
    return {name for name in names if f"mnist_jax.{name}" in MODULES or name == "cli"}


@pytest.mark.parametrize("name", LAYERS)
def test_imports_run_one_way(name: str) -> None:
    assert ours(MODULES[f"mnist_jax.{name}"]) <= LAYERS[name]


def test_every_module_has_its_place_in_the_picture() -> None:
    library = {name.split(".")[1] for name in MODULES if name.startswith("mnist_jax.") and ".cli" not in name}
    assert library - {"__init__"} == set(LAYERS)


def test_nothing_imports_the_command_line_and_only_models_imports_flax() -> None:
    for name, path in MODULES.items():
        if ".cli" not in name:
            assert "cli" not in ours(path), name
        if name != "mnist_jax.models":
            assert not any(imported.split(".")[0] == "flax" for imported in imports(path)), name


def test_the_exporter_needs_jax_for_the_proof_alone() -> None:
    with_jax = {"mnist_onnx.proof", "mnist_onnx.runtimes"}
    for name, path in MODULES.items():
        if name.startswith("mnist_onnx.") and name not in with_jax:
            assert ours(path) <= LEAVES | {"store", "types"}, name  # types for a type alone
            assert "jax" not in {imported.split(".")[0] for imported in imports(path)}, name


def loaded_after(code: str) -> set[str]:
    """The top-level packages in memory after `code`, in a process of its own; nothing may be printed."""
    program = f"{code}\nimport sys; sys.stderr.write(' '.join(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout == ""
    return {name.split(".")[0] for name in done.stderr.split()}


def test_importing_the_packages_is_free() -> None:
    for code in (
        "import mnist_jax",
        "import mnist_onnx",
        "from mnist_jax import MLP, Config, Hyper, PRESETS",
    ):
        assert not loaded_after(code) & HEAVY


def test_the_classifier_needs_neither_jax_nor_flax_nor_onnx(tmp_path: Path) -> None:
    from mnist_jax.models import init
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


def test_importing_changes_neither_the_environment_nor_jaxs_settings() -> None:
    code = """
import os, jax
before = dict(os.environ), dict(jax.config.values)
import mnist_jax, mnist_onnx
for name in mnist_jax.__all__: getattr(mnist_jax, name)
for name in mnist_onnx.__all__: getattr(mnist_onnx, name)
assert (dict(os.environ), dict(jax.config.values)) == before
"""
    loaded_after(code)


def test_the_public_names_are_those_that_type_checkers_see() -> None:
    tree = ast.parse((ROOT / "mnist_jax" / "__init__.py").read_text())
    (block,) = [node for node in tree.body if isinstance(node, ast.If)]
    seen = {alias.asname for node in block.body if isinstance(node, ast.ImportFrom) for alias in node.names}
    assert seen == set(mnist_jax.__all__) == set(dir(mnist_jax))
    for name in mnist_jax.__all__:
        assert getattr(mnist_jax, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = mnist_jax.nothing


# What is static comes first, then the key, then arrays, then options by name.
ORDER = (
    "config",
    "spec",
    "hyper",
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


def public_functions() -> list[tuple[str, object]]:
    import mnist_onnx

    names = [(name, getattr(mnist_jax, name)) for name in mnist_jax.__all__]
    names += [(name, getattr(mnist_onnx, name)) for name in mnist_onnx.__all__]
    return [(name, thing) for name, thing in names if inspect.isfunction(thing)]


@pytest.mark.parametrize(("name", "function"), public_functions())
def test_public_functions_share_one_order_of_arguments(name: str, function: object) -> None:
    parameters = inspect.signature(function).parameters.values()
    positional = [p.name for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD and p.name in ORDER]
    assert positional == sorted(positional, key=ORDER.index), name
    assert "rng" not in {p.name for p in parameters}


@pytest.mark.parametrize(("name", "function"), public_functions())
def test_public_functions_are_described(name: str, function: object) -> None:
    assert inspect.getdoc(function), name


def test_files_stay_short_enough_to_read_in_one_sitting() -> None:
    lengths = {name: len(path.read_text().splitlines()) for name, path in MODULES.items()}
    assert max(lengths.values()) <= 280, max(lengths, key=lambda name: lengths[name])


def test_the_test_set_is_a_type_of_its_own() -> None:
    assert not issubclass(types.HeldOut, types.Examples)
    assert not issubclass(types.Examples, types.HeldOut)


@pytest.mark.slow
def test_the_type_checker_keeps_the_test_set_from_training(tmp_path: Path) -> None:
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
    wrong = [line.split(":")[1] for line in done.stdout.splitlines() if 'incompatible type "HeldOut"' in line]
    assert wrong == ["5", "6"], done.stdout
