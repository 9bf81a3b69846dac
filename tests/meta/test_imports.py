"""Architecture: which package may import which, and the size of files and packages."""

import ast
from collections.abc import Iterator

import pytest
from helpers.paths import ROOT

MODULES = {
    ".".join(path.relative_to(base).with_suffix("").parts): path
    for base in (ROOT, ROOT / "export")
    for package in ("bench", "mnist_jax", "mnist_onnx")
    for path in sorted((base / package).rglob("*.py"))
    if "baselines" not in path.parts
}
# From top to bottom: each layer imports only those below it, also for type annotations.
LAYERS = (
    "mnist_jax.cli",
    "bench",
    "mnist_jax.report",
    "mnist_jax.runs",
    "mnist_onnx",
    "mnist_jax.training",
    "mnist_jax.evaluation",
    "mnist_jax.augmentation",
    "mnist_jax.nn",
    "mnist_jax.parallel",
    "mnist_jax.data",
    "mnist_jax.types",
    "mnist_jax.config",
    "mnist_jax._utils",
    "mnist_jax.errors",
)
# The packages that the exporter may import, and its modules that may use JAX, for comparison.
BELOW_EXPORT = {"mnist_jax.config", "mnist_jax.data", "mnist_jax.nn", "mnist_jax.types", "mnist_jax._utils"}
EXPORT_WITH_JAX = {
    "mnist_onnx.flax_export",
    "mnist_onnx.parity",
    "mnist_onnx.parity_cases",
    "mnist_onnx.runtime_check",
}
MAX_MODULES = 9  # per package; except the command line, which has one per command
MAX_LINES = 280  # per file


def layer(name: str) -> str | None:
    """The layer of a module or of a name in it."""
    return next((at for at in LAYERS if name == at or name.startswith(f"{at}.")), None)


def imports(name: str) -> Iterator[str]:
    """The full names that a module imports anywhere, with public names resolved to where they are defined."""
    for node in ast.walk(ast.parse(MODULES[name].read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from (
                PUBLIC.get(f"{node.module}.{alias.name}", f"{node.module}.{alias.name}")
                for alias in node.names
            )


def public(package: str) -> Iterator[tuple[str, str]]:
    """The public names of a package, and where they are defined."""
    stub = MODULES[f"{package}.__init__"].with_suffix(".pyi")
    for node in ast.parse(stub.read_text()).body:
        if isinstance(node, ast.ImportFrom):
            origin = f"{package}.{node.module}" if node.module else package
            yield from ((f"{package}.{alias.name}", f"{origin}.{alias.name}") for alias in node.names)


PUBLIC = dict([*public("mnist_jax"), *public("mnist_onnx")])


@pytest.mark.parametrize("name", [name for name in MODULES if layer(name)])
def test_imports_follow_the_layers(name: str) -> None:
    importer = layer(name)
    assert importer is not None
    for imported in imports(name):
        target = layer(imported)
        assert target is None or LAYERS.index(target) >= LAYERS.index(importer), f"{name} imports {imported}"


def test_modules_have_no_circular_imports() -> None:
    graph = {
        name: {
            module
            for full in imports(name)
            for module in (full, full.rpartition(".")[0])
            if module in MODULES
        }
        - {name}
        for name in MODULES
    }
    done: set[str] = set()

    def visit(name: str, path: tuple[str, ...]) -> None:
        assert name not in path, " -> ".join([*path, name])
        if name not in done:
            for imported in graph[name]:
                visit(imported, (*path, name))
            done.add(name)

    for name in MODULES:
        visit(name, ())


def test_every_module_belongs_to_a_layer() -> None:
    assert {name for name in MODULES if layer(name) is None} == {"mnist_jax.__init__"}


def test_packages_stay_small() -> None:
    packages: dict[str, int] = {}
    for name in MODULES:
        package, _, last = name.rpartition(".")
        if package.startswith("mnist_jax.") and package != "mnist_jax.cli" and last != "__init__":
            packages[package] = packages.get(package, 0) + 1
    assert max(packages.values()) <= MAX_MODULES, packages


def test_only_the_modules_import_flax() -> None:
    """The library's networks, and a benchmark's, which has one of its own."""
    for name in MODULES:
        if name not in ("mnist_jax.nn.modules", "bench.strided"):
            assert not any(imported.split(".")[0] == "flax" for imported in imports(name)), name


def test_config_needs_no_jax() -> None:
    for name in MODULES:
        if name.startswith("mnist_jax.config."):
            assert not {imported.split(".")[0] for imported in imports(name)} & {"jax", "flax", "optax"}, name


def test_the_exporter_needs_jax_only_for_parity() -> None:
    for name in MODULES:
        if name.startswith("mnist_onnx.") and name not in EXPORT_WITH_JAX:
            targets = {layer(imported) for imported in imports(name)}
            targets -= {None, "mnist_onnx", "mnist_jax.errors"}
            assert targets <= BELOW_EXPORT, name
            assert "jax" not in {imported.split(".")[0] for imported in imports(name)}, name


def test_files_stay_short() -> None:
    lengths = {name: len(path.read_text().splitlines()) for name, path in MODULES.items()}
    assert max(lengths.values()) <= MAX_LINES, max(lengths, key=lambda name: lengths[name])
