"""Robustness: corruptions equal SciPy's, and accuracy is counted for each amount."""

import jax
import numpy as np
import pytest
from scipy import ndimage

from mnist_jax.data.datasets import Dataset
from mnist_jax.errors import MnistJaxError
from mnist_jax.evaluation.robustness import CORRUPTIONS, robustness

KEY = jax.random.key(0)
BY_NAME = {corruption.name.split(",")[0]: corruption for corruption in CORRUPTIONS}


def corrupt(name: str, image: np.ndarray, amount: float) -> np.ndarray:
    pixels = (image / 255).astype(np.float32)
    return np.asarray(BY_NAME[name].apply(KEY, pixels, np.float32(amount)))


def test_rotation_shift_and_scaling_equal_scipy(digits: Dataset) -> None:
    image = np.asarray(digits.test.images[0])
    pixels = image / 255
    rotated = ndimage.rotate(pixels, 20, reshape=False, order=1)
    np.testing.assert_allclose(corrupt("rotation", image, 20), rotated, atol=1e-5)
    np.testing.assert_allclose(corrupt("shift", image, 2), ndimage.shift(pixels, (0, 2), order=1), atol=1e-5)
    for size in (0.8, 1.2):
        to_old = np.eye(2) / size
        expected = ndimage.affine_transform(pixels, to_old, 13.5 - to_old @ [13.5, 13.5], order=1)
        np.testing.assert_allclose(corrupt("size", image, size), expected, atol=1e-5)


def test_strokes_widen_and_shrink_by_a_pixel_on_either_side() -> None:
    image = np.zeros((28, 28), np.uint8)
    image[5:20, 10:13] = 255
    assert np.flatnonzero(corrupt("stroke", image, 1)[10]).tolist() == [9, 10, 11, 12, 13]
    assert np.flatnonzero(corrupt("stroke", image, -1)[10]).tolist() == [11]
    assert corrupt("stroke", image, 0.3)[10, 9] == pytest.approx(0.3)


def test_noise_has_its_standard_deviation_and_is_clipped() -> None:
    gray = np.full((28, 28), 127, np.uint8)
    assert (corrupt("noise", gray, 0.1) - 127 / 255).std() == pytest.approx(0.1, rel=0.1)
    strong = corrupt("noise", gray, 0.6)
    assert (strong.min(), strong.max()) == (0, 1)


def test_one_amount_of_each_corruption_leaves_the_image_unchanged(digits: Dataset) -> None:
    image = np.asarray(digits.test.images[3])
    for corruption in CORRUPTIONS:
        steps = np.diff(corruption.amounts)
        np.testing.assert_allclose(steps, steps[0])
        identity = 1 if corruption.name == "size" else 0
        assert identity in corruption.amounts
        np.testing.assert_allclose(
            corrupt(corruption.name.split(",")[0], image, identity), image / 255, atol=1e-6
        )


def test_correct_predictions_are_counted_for_each_amount(digits: Dataset) -> None:
    images, labels = np.asarray(digits.test.images[:20]), np.asarray(digits.test.labels[:20])
    calls: list[np.ndarray] = []

    def predict_three_for_much_ink(pictures: np.ndarray) -> np.ndarray:
        calls.append(pictures)
        return np.eye(10)[np.where(pictures.mean(axis=(1, 2)) > 30, 3, 0)]

    curves = robustness(predict_three_for_much_ink, images, labels, KEY)
    assert [curve.name for curve in curves] == [corruption.name for corruption in CORRUPTIONS]
    batches = iter(calls)
    for curve in curves:
        for amount, accuracy, picture in zip(curve.amounts, curve.accuracies, curve.pictures, strict=True):
            batch = next(batches)
            assert (batch.dtype, batch.shape) == (np.uint8, (20, 28, 28))
            np.testing.assert_array_equal(batch[0], picture)
            predicted = np.where(batch.mean(axis=(1, 2)) > 30, 3, 0)
            assert accuracy == (predicted == labels).mean(), amount
    assert len({curve.accuracies for curve in curves}) > 1


@pytest.mark.usefixtures("unchecked")
def test_robustness_rejects_invalid_arguments(digits: Dataset) -> None:
    images, labels = np.asarray(digits.test.images[:2]), np.array([1, 2])
    for arguments, message in (
        ((images[:0], labels[:0], KEY), "robustness needs at least one image; got none"),
        ((images, labels[:1], KEY), "labels must be an array with one entry for each of 2 images"),
        ((images[:, :20, :20], labels, KEY), r"images must be an array of shape \[batch, 28, 28\]"),
        ((images.astype(np.int64), labels, KEY), "images must be uint8"),
        ((images, labels, 0), "key must be one typed key"),
    ):
        with pytest.raises(MnistJaxError, match=message):
            robustness(lambda pictures: pictures, *arguments)
