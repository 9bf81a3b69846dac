"""Validation of pixel values: impossible ranges, and images that are black on white."""

from pathlib import Path

import jax
import numpy as np
import pytest

import mnist_jax
import mnist_onnx
from mnist_jax import Config, Examples
from mnist_jax.config.networks import MLP
from mnist_jax.data.datasets import Dataset
from mnist_jax.errors import InputError

pytestmark = pytest.mark.usefixtures("unchecked")
KEY = jax.random.key(0)
SPEC = MLP((5,), ("relu",))


def test_images_of_an_impossible_range_are_rejected(digits: Dataset, tmp_path: Path) -> None:
    images = np.asarray(digits.test.images[:20])
    params = mnist_jax.init(SPEC, KEY)
    mnist_onnx.save(mnist_onnx.to_onnx(SPEC, params, input="float32"), tmp_path / "model.onnx")
    classifier = mnist_onnx.Classifier(tmp_path / "model.onnx")
    config = Config(SPEC, batch_size=8, epochs=1)
    for wrong, message in (
        ((images > 127).astype(np.uint8), "got 0..1; multiply binary images by 255"),
        (images.astype(np.float32) / 255 / 255, "they were divided by 255 twice; divide once"),
    ):
        examples = Examples(wrong, digits.test.labels[:20])
        for use in (
            lambda wrong=wrong: classifier.predict(wrong),
            lambda wrong=wrong: mnist_jax.predict(SPEC, params, wrong),
            lambda examples=examples: mnist_jax.evaluate(SPEC, params, examples),
            lambda examples=examples: mnist_jax.fit(config, examples, key=KEY),
        ):
            with pytest.raises(InputError, match=message):
                use()
    assert classifier.predict(np.zeros((1, 28, 28), np.uint8)).shape == (1, 10)  # black is allowed


def test_inverted_images_are_an_error_in_prediction_and_a_warning_in_training(
    digits: Dataset, tmp_path: Path
) -> None:
    images = np.asarray(digits.test.images[:20])
    mnist_onnx.save(
        mnist_onnx.to_onnx(SPEC, mnist_jax.init(SPEC, KEY), input="float32"), tmp_path / "model.onnx"
    )
    classifier = mnist_onnx.Classifier(tmp_path / "model.onnx")
    expected = classifier.predict(images)
    for inverted in (255 - images, 1 - images / np.float32(255)):
        with pytest.raises(
            InputError, match="white on black; got bright borders; black on white: invert=True"
        ):
            classifier.predict(inverted)
        np.testing.assert_allclose(classifier.predict(inverted, invert=True), expected, atol=1e-6)
    with pytest.warns(UserWarning, match="should be white on black"):
        mnist_jax.fit(
            Config(SPEC, batch_size=8, epochs=1), Examples(255 - images, digits.test.labels[:20]), key=KEY
        )
