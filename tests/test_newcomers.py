"""What people type who have not read the documentation: in Python, each mistake gets one line that helps."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from mistakes import KEY, MISTAKES, SPEC

import mnist_jax
import mnist_onnx
from mnist_jax import errors
from mnist_jax.datasets import Dataset

pytestmark = pytest.mark.usefixtures("unchecked")


@pytest.fixture(scope="module")
def at_hand(digits: Dataset) -> SimpleNamespace:
    params = mnist_jax.init(SPEC, KEY)
    return SimpleNamespace(
        data=digits,
        images=np.asarray(digits.test.images[:20]),
        labels=np.asarray(digits.test.labels[:20]),
        params=params,
        model=mnist_onnx.to_onnx(SPEC, params),
    )


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_in_python_is_one_line_that_helps(name: str, at_hand: SimpleNamespace) -> None:
    mistake, kind, message = MISTAKES[name]
    with pytest.raises(kind, match=message) as refusal:
        mistake(at_hand)
    assert isinstance(refusal.value, errors.MnistJaxError)
    assert len(str(refusal.value).splitlines()) == 1


def test_every_error_is_named_in_the_docstrings_that_raise_it() -> None:
    """Whatever a module raises by name, its docstring or that of a function in it says."""
    import ast

    root = Path(mnist_jax.__file__).parent
    for path in [*root.glob("*.py"), *Path(mnist_onnx.__file__).parent.glob("*.py")]:
        tree = ast.parse(path.read_text())
        raised = {
            node.exc.func.id
            for node in ast.walk(tree)
            if isinstance(node, ast.Raise)
            and isinstance(node.exc, ast.Call)
            and isinstance(node.exc.func, ast.Name)
            and node.exc.func.id in vars(errors)
        }
        said = " ".join(
            ast.get_docstring(node) or ""
            for node in ast.walk(tree)
            if isinstance(node, ast.FunctionDef | ast.ClassDef | ast.Module)
        )
        assert not {name for name in raised if f"{name}: " not in said}, path
