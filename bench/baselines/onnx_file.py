"""ONNX Runtime, with the ONNX file of a network trained by mnist-jax."""

import tempfile
from pathlib import Path

import protocol
import jax
import numpy as np
import onnxruntime

import mnist_jax
import mnist_onnx

x, y, x_test, y_test, network, batch_size = protocol.load()
config = mnist_jax.Config(protocol.spec(network), batch_size=batch_size, epochs=1)


def epoch() -> None:
    global classifier
    params = mnist_jax.fit(config, mnist_jax.Examples(x, y), key=jax.random.key(0)).params
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        mnist_onnx.save(mnist_onnx.to_onnx(config.model, params), path)
        classifier = mnist_onnx.Classifier(path)


def predict(images: np.ndarray) -> np.ndarray:
    return classifier.predict(images)


protocol.serve({"onnxruntime": onnxruntime.__version__}, epoch, predict, x_test, y_test)
