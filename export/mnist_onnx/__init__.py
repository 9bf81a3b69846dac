"""Trained networks as ONNX files: export, proof of equality with JAX, and inference without JAX.

    to_onnx(spec, params)                         builds the ONNX model directly from the spec
    save(model, path)                             writes it, and a model.json beside it
    check_parity(spec, params, model, images)     proves that it equals the JAX model
    Classifier(path).predict(images)              runs it with NumPy and ONNX Runtime alone
    load(path)                                    reads it back into JAX

Importing this package imports nothing else: each name in `__init__.pyi` is imported on first use.
"""

from typing import Any

import lazy_loader

from mnist_jax.errors import NotInstalledError

_lazy_getattr, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)


def __getattr__(name: str) -> Any:
    """Imports a public name on first use.

    Raises:
        NotInstalledError: its module needs a package that is not installed.
        AttributeError: there is no such name.
    """
    try:
        return _lazy_getattr(name)
    except ModuleNotFoundError as error:
        raise NotInstalledError(f"{__name__}.{name}", error) from None
