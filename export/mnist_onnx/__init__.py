"""Trained networks as ONNX files: written, proven equal to JAX, and run without JAX.

    to_onnx(spec, params)                   the file, built directly from the spec
    save(model, path)                       writes it, and a model.json beside it
    parity(spec, params, model, images)     the proof that it equals the JAX model
    Classifier(path).predict(images)        runs it with NumPy and ONNX Runtime alone
    load(path)                              brings it back into JAX

Importing this package imports nothing else: each name is looked up when it is first used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mnist_onnx.classifier import Classifier as Classifier
    from mnist_onnx.graph import to_onnx as to_onnx
    from mnist_onnx.proof import Parity as Parity
    from mnist_onnx.proof import compare as compare
    from mnist_onnx.proof import parity as parity
    from mnist_onnx.storage import load as load
    from mnist_onnx.storage import save as save

_HOME = {
    "Classifier": "classifier",
    "Parity": "proof",
    "compare": "proof",
    "load": "storage",
    "parity": "proof",
    "save": "storage",
    "to_onnx": "graph",
}

__all__ = sorted(_HOME)  # noqa: PLE0605


def __getattr__(name: str) -> Any:
    """The thing of that name, from its module.

    Raises:
        NotInstalledError: its module needs a package that is not installed.
        AttributeError: there is no such name.
    """
    try:
        if name in _HOME:
            return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
    except ModuleNotFoundError as error:
        from mnist_jax.errors import NotInstalledError

        raise NotInstalledError(f"{__name__}.{name}", error) from None
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
