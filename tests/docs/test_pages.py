"""The README and the documentation: figures are the measured ones, names and links lead somewhere."""

import ast
import json
import re

import pytest
from helpers.paths import ROOT

from mnist_jax.cli import reproduce

RESULTS = ROOT / "bench" / "results"
README = (ROOT / "README.md").read_text()
PAGES = {
    path.relative_to(ROOT / "docs").as_posix(): path.read_text() for path in (ROOT / "docs").rglob("*.md")
}
TABLES = sorted(path.name for path in RESULTS.glob("*.md"))
LONGEST_README = 180  # lines


def slugs(page: str) -> set[str]:
    """The anchors of a page's headings, as MkDocs makes them."""
    titles = re.findall(r"^#+ (.*)$", page, flags=re.MULTILINE)
    return {re.sub(r"[-\s]+", "-", re.sub(r"[^\w\s-]", "", title).strip().lower()) for title in titles}


def test_the_readme_is_short() -> None:
    assert len(README.splitlines()) <= LONGEST_README


def test_the_first_screen_is_one_sentence_one_block_one_table() -> None:
    start, *_ = README.split("\n## ")
    assert start.count("```") == 2
    assert start.index("```") < start.index("\n|")
    assert len(start.splitlines()) < 40


def test_the_table_of_the_readme_is_the_measured_one() -> None:
    measured = RESULTS / "five-presets.md"
    table, _, _ = measured.read_text().partition("\n\n")
    assert table in README
    assert reproduce._markdown(json.loads(measured.with_suffix(".json").read_text())) == measured.read_text()


@pytest.mark.parametrize(
    ("figure", "table"),
    [
        ("0.44 ± 0.02 %", "test_error"),
        ("0.37 ± 0.04 %", "mlp_from_cnn"),
        ("0.36 ± 0.07 %", "mlp_from_cnn"),
        ("0.39 ± 0.04 %", "test_error"),
        ("0.40 %", "test_error"),
        ("0.29", "frameworks-mlp-100"),
        ("10.4", "frameworks-mlp-100"),
        ("3.3", "frameworks-mlp-100"),
        ("5.2", "frameworks-lenet-5-amd"),
        ("2.4", "frameworks-lenet-5-amd"),
    ],
)
def test_figures_of_the_readme_are_in_the_tables(figure: str, table: str) -> None:
    assert figure in README.split("## Install")[0]
    assert f"| {figure} " in (RESULTS / f"{table}.md").read_text()


@pytest.mark.parametrize("table", TABLES)
def test_results_are_included_and_not_copied(table: str) -> None:
    including = [page for page, text in PAGES.items() if f'--8<-- "bench/results/{table}"' in text]
    assert len(including) == 1
    assert including[0].startswith("results/")


def test_links_of_the_readme_lead_somewhere() -> None:
    for target in re.findall(r"\]\(([^)]+)\)", README):
        path, _, anchor = target.partition("#")
        assert (ROOT / path).exists(), target
        if anchor:
            assert anchor in slugs((ROOT / path).read_text()), target


def test_every_guarantee_names_a_test_that_exists() -> None:
    named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", PAGES["project/guarantees.md"])
    assert len(named) > 40
    for file, test in named:
        assert f"def {test}(" in (ROOT / file).read_text(), f"{file}::{test}"


def test_paths_that_the_pages_name_exist() -> None:
    for page, text in PAGES.items():
        for path in re.findall(r"`((?:bench|tests|export|docs)/[\w./-]+)`", text):
            assert (ROOT / path).exists(), f"{page}: {path}"


@pytest.mark.parametrize(("package", "folder"), [("mnist_jax", "."), ("mnist_onnx", "export")])
def test_the_reference_has_every_public_name(package: str, folder: str) -> None:
    page = PAGES[f"reference/{package}.md"] + PAGES["reference/errors.md"]
    for node in ast.parse((ROOT / folder / package / "__init__.pyi").read_text()).body:
        assert isinstance(node, ast.ImportFrom)
        for alias in node.names:
            home = f"{package}.{node.module or ''}.{alias.name}".replace("..", ".")
            is_package = (ROOT / folder / home.replace(".", "/")).is_dir()
            names = (f"::: {package}.{alias.name}\n", f"::: {home}\n")
            assert is_package or any(name in page for name in names), home


def test_the_picture_of_the_packages_has_all_of_them() -> None:
    picture = (ROOT / "docs" / "assets" / "architecture.svg").read_text()
    drawn = set(re.findall(r'class="name"[^>]*>(\w+)<', picture))
    packages = {path.parent.name for path in (ROOT / "mnist_jax").glob("*/__init__.py")}
    assert drawn == packages | {"bench", "mnist_onnx", "types", "errors"}
