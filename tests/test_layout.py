"""The layout, as tests: what imports what, and files short enough to read."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

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
    "checks": {"arrays", "errors", "networks", "settings", "specs"},
    "idx": {"errors"},
    "types": {"checks"},
    "convolution": {"networks", "types"},
    "machine": set(),
    "folders": {"errors", "sources"},
    "npy": set(),
    "npz": {"errors", "npy"},
    "fetch": {"errors", "sources"},
    "store": {"idx", "errors", "fetch", "files", "folders", "npz", "sources"},
    "datasets": {
        "folders",
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
    "prepare": {"checks", "errors", "files"},
    "products": {"types"},
    "models": {"checks", "convolution", "errors", "networks", "products", "settings", "types"},
    "augment": {"checks", "deformations", "errors", "models", "networks", "types"},
    "adversarial": {"checks", "models", "settings", "types"},
    "metrics": {"checks", "errors", "networks", "settings", "types"},
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
    "loop": {"checks", "errors", "evaluation", "models", "specs", "train", "types"},
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
    "checkpoint": {"arrays", "errors", "files", "settings", "train"},
    "directories": {"errors", "files"},
    "runs": {"directories", "errors", "settings", "specs", "files", "loop"},
    "results": {"arrays", "errors", "files", "loop", "networks", "runs", "settings", "specs", "types"},
    "swept": {"directories", "errors", "results", "runs", "specs"},
    "inspection": {"checks", "errors", "models", "networks", "types"},
    "robustness": {"augment", "checks", "errors", "models", "types"},
    "canvas": set(),
    "mosaics": {"canvas", "checks", "errors", "networks", "sources"},
    "plots": {
        "canvas",
        "checks",
        "errors",
        "loop",
        "metrics",
        "mosaics",
        "networks",
        "robustness",
        "sources",
        "swept",
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
        "swept",
        "types",
    },
    "comparison": {"datasets", "pages", "plots", "results", "runs"},
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
    with_jax = {"mnist_onnx.proof", "mnist_onnx.questions", "mnist_onnx.runtimes"}
    for name, path in MODULES.items():
        if name.startswith("mnist_onnx.") and name not in with_jax:
            assert ours(path) <= LEAVES | {"store", "types"}, name  # types for a type alone
            assert "jax" not in {imported.split(".")[0] for imported in imports(path)}, name


def test_files_stay_short_enough_to_read_in_one_sitting() -> None:
    lengths = {name: len(path.read_text().splitlines()) for name, path in MODULES.items()}
    assert max(lengths.values()) <= 280, max(lengths, key=lambda name: lengths[name])
