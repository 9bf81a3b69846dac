"""Any number of classes, from training to the ONNX file."""

from dataclasses import replace
from pathlib import Path

import jax
import numpy as np
import pytest

from mnist_jax import metrics
from mnist_jax.config.networks import CNN, MLP, Ensemble, Network
from mnist_jax.config.serialization import network_from_json, network_to_json
from mnist_jax.config.training import Config
from mnist_jax.data.examples import Examples, TestSet
from mnist_jax.errors import InputError, SpecError
from mnist_jax.evaluation.evaluate import evaluate
from mnist_jax.nn.model import apply, ensemble_params, init
from mnist_jax.training.loop import fit
from mnist_onnx import Classifier, check_parity, load, save, to_onnx
from mnist_onnx.quantize import PRECISIONS, cost, quantize

KEY = jax.random.key(0)
NETWORKS: tuple[Network, ...] = (MLP((9,)), CNN((3,), 5))


def marked(num_classes: int, count: int) -> Examples:
    """Images in which the class is readable: its bits are bright or dark squares."""
    labels = np.arange(count) % num_classes
    rng = np.random.default_rng(0)
    images = rng.integers(0, 40, (count, 28, 28), np.uint8)
    for bit in range(10):
        row, column = divmod(bit, 5)
        patch = images[:, 4 + 10 * row : 10 + 10 * row, 5 * column : 4 + 5 * column]
        patch += ((labels >> bit & 1) * 200).astype(np.uint8)[:, None, None]
    return Examples(images, labels.astype(np.uint16))


@pytest.mark.parametrize("num_classes", [2, pytest.param(26, marks=pytest.mark.slow)])
@pytest.mark.parametrize("network", NETWORKS, ids=str)
def test_a_network_learns_any_number_of_classes(network: Network, num_classes: int) -> None:
    train, test = marked(num_classes, 1040), marked(num_classes, 260)
    config = Config(replace(network, num_classes=num_classes), epochs=40 if num_classes > 2 else 3)
    result = fit(config, train, test, key=KEY)
    scores = evaluate(config.model, result.params, TestSet(test.images, test.labels))
    assert scores.confusion.shape == (num_classes, num_classes)
    assert scores.accuracy > 0.95
    assert (metrics.class_scores(scores.confusion).f1 > 0.5).all()


@pytest.mark.parametrize("num_classes", [2, 47, 1000])
@pytest.mark.parametrize("network", NETWORKS, ids=str)
def test_the_file_has_every_class_and_equals_jax(tmp_path: Path, network: Network, num_classes: int) -> None:
    spec, test = replace(network, num_classes=num_classes), marked(num_classes, 100)
    params = init(spec, KEY)
    names = [f"class {index}" for index in range(num_classes)]
    model = to_onnx(spec, params, classes=names)
    assert check_parity(spec, params, model, test.images).passed
    save(model, tmp_path / "model.onnx")
    classifier = Classifier(tmp_path / "model.onnx")
    assert classifier.labels == names
    assert classifier.predict(test.images).shape == (100, num_classes)
    again, loaded = load(tmp_path / "model.onnx")
    assert again == spec
    assert np.array_equal(apply(spec, loaded, test.images), apply(spec, params, test.images))
    for precision in PRECISIONS:
        smaller = quantize(model, precision, images=np.asarray(test.images))
        if precision != "int8-static":
            assert check_parity(spec, params, smaller, test.images).passed
        files = model.SerializeToString(), smaller.SerializeToString()
        assert cost(*files, TestSet(test.images, test.labels)).n == 100


def test_an_ensemble_has_its_members_classes() -> None:
    members = tuple(replace(network, num_classes=26) for network in NETWORKS)
    spec, test = Ensemble(members), marked(26, 52)
    params = ensemble_params([init(member, KEY) for member in members])
    assert check_parity(spec, params, to_onnx(spec, params), test.images).passed
    with pytest.raises(SpecError, match="members must have the same num_classes; got 10 and 26"):
        Ensemble((members[0], NETWORKS[0]))


def test_labels_must_fit_the_network() -> None:
    examples = marked(26, 52)
    with pytest.raises(InputError, match=r"labels must lie in 0..9; got 0..25; .* num_classes=26"):
        fit(Config(NETWORKS[0]), examples, key=KEY)
    with pytest.raises(InputError, match=r"labels must lie in 0..9; got 0..25"):
        evaluate(NETWORKS[0], init(NETWORKS[0], KEY), examples)
    with pytest.raises(InputError, match=r"labels must lie in 0..2; got 0..25"):
        metrics.cross_entropy("softmax", jax.numpy.zeros((52, 3)), examples.labels)
    spec = replace(NETWORKS[0], num_classes=26)
    with pytest.raises(SpecError, match="classes must be 26 names"):
        to_onnx(spec, init(spec, KEY), classes="ab")


@pytest.mark.parametrize("count", [1, 0, -3, 1001, 2.5, "ten", True])
def test_other_numbers_of_classes_are_refused(count: object) -> None:
    with pytest.raises(SpecError, match="num_classes must be"):
        MLP((), num_classes=count)  # type: ignore[arg-type]
    with pytest.raises(SpecError, match="num_classes must be"):
        CNN((4,), num_classes=count)  # type: ignore[arg-type]


def test_json_names_the_classes_of_all_but_digits() -> None:
    for network in (*NETWORKS, *(replace(network, num_classes=26) for network in NETWORKS)):
        values = network_to_json(network)
        assert ("num_classes" in values) == (network.num_classes != 10)
        assert network_from_json(values) == network
