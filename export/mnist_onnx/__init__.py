"""Trained networks as ONNX files: export, proof of equality with JAX, and inference without JAX.

    to_onnx(spec, params)                         builds the ONNX model directly from the spec
    save(model, path)                             writes it, and a model.json beside it
    check_parity(spec, params, model, images)     proves that it equals the JAX model
    Classifier(path).predict(images)              runs it with NumPy and ONNX Runtime alone
    load(path)                                    reads it back into JAX

Importing this package imports nothing else: each name in `__init__.pyi` is imported on first use.
"""

from mnist_jax._utils import lazy_package

__getattr__, __dir__, __all__ = lazy_package.attach(__name__, __file__, __name__)
