"""Common mistakes in Python: each raises an error with a helpful message of one line."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from helpers.python_errors import KEY, MISTAKES, SPEC

import mnist_jax
import mnist_onnx
from mnist_jax import errors
from mnist_jax.data.datasets import Dataset

pytestmark = pytest.mark.usefixtures("unchecked")


@pytest.fixture(scope="module")
def context(digits: Dataset) -> SimpleNamespace:
    params = mnist_jax.init(SPEC, KEY)
    return SimpleNamespace(
        data=digits,
        images=np.asarray(digits.test.images[:20]),
        labels=np.asarray(digits.test.labels[:20]),
        params=params,
        model=mnist_onnx.to_onnx(SPEC, params),
    )


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_raises_one_helpful_line(name: str, context: SimpleNamespace) -> None:
    mistake, kind, message = MISTAKES[name]
    with pytest.raises(kind, match=message) as caught:
        mistake(context)
    assert isinstance(caught.value, errors.MnistJaxError)
    assert len(str(caught.value).splitlines()) == 1


def test_docstrings_name_every_error_that_is_raised() -> None:
    """Each error that a module raises is in its docstring or in that of one of its functions."""
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
        docstrings = " ".join(
            ast.get_docstring(node) or ""
            for node in ast.walk(tree)
            if isinstance(node, ast.FunctionDef | ast.ClassDef | ast.Module)
        )
        assert not {name for name in raised if f"{name}: " not in docstrings}, path
