"""Any Flax module as the network."""

import json
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from mnist_jax import inspection
from mnist_jax.config.networks import MLP, Ensemble, FlaxModel
from mnist_jax.config.serialization import from_json, to_json
from mnist_jax.config.training import Config, HyperParams
from mnist_jax.data.datasets import Dataset
from mnist_jax.errors import SpecError
from mnist_jax.evaluation.evaluate import evaluate
from mnist_jax.nn.model import apply, init, intermediates, predict
from mnist_jax.training import checkpoint
from mnist_jax.training.callbacks import KeepBest
from mnist_jax.training.loop import fit
from mnist_jax.training.start import abstract_state, init_state
from mnist_jax.training.step import train_step
from mnist_jax.training.sweep import fit_many
from mnist_onnx import to_onnx

KEY = jax.random.key(0)


class ConvNet(nn.Module):
    """Convolutions with batch normalization and dropout."""

    features: tuple[int, ...] = (4, 8)
    num_classes: int = 10

    @nn.compact
    def __call__(self, images: jax.Array, train: bool) -> jax.Array:
        x = images[..., None]
        for features in self.features:
            x = nn.BatchNorm(use_running_average=not train, momentum=0.9)(nn.Conv(features, (3, 3))(x))
            x = nn.avg_pool(nn.relu(x), (2, 2), (2, 2))
        x = nn.Dropout(0.1, deterministic=not train)(x.reshape(len(x), -1))
        return nn.Dense(self.num_classes)(x)


class OurMLP(nn.Module):
    """The network of `MLP((20,))`, with its names."""

    @nn.compact
    def __call__(self, images: jax.Array) -> jax.Array:
        hidden = nn.relu(nn.Dense(20, kernel_init=nn.initializers.glorot_uniform())(images.reshape(-1, 784)))
        return nn.Dense(10, kernel_init=nn.initializers.glorot_uniform())(hidden)


class Mean(nn.Module):
    def __call__(self, images: jax.Array) -> jax.Array:
        return jnp.broadcast_to(images.mean(axis=(1, 2))[:, None], (len(images), 10))


class Broken(nn.Module):
    shape: tuple[int, ...] = (3,)

    @nn.compact
    def __call__(self, images: jax.Array) -> jax.Array:
        return nn.Dense(self.shape[0])(images.reshape(len(images), -1))


class Noisy(nn.Module):
    """Noise from a stream of random numbers of its own."""

    always: bool = False

    @nn.compact
    def __call__(self, images: jax.Array, train: bool) -> jax.Array:
        x = images.reshape(len(images), -1)
        if train or self.always:
            x += 0.1 * jax.random.normal(self.make_rng("noise"), x.shape)
        return nn.Dense(10)(x)


class Masked(Mean):
    def __call__(self, images: jax.Array, mask: jax.Array) -> jax.Array:
        return super().__call__(images * mask)


SPEC, SHAKY = FlaxModel(ConvNet()), FlaxModel(Noisy(always=True))


def equal(a: Any, b: Any) -> bool:
    return all(np.array_equal(x, y) for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True))


def test_a_module_trains_as_our_own_network(digits: Dataset) -> None:
    ours, theirs = Config(MLP((20,)), epochs=1), Config(FlaxModel(OurMLP()), epochs=1)
    params = init(ours.model, KEY)
    train = digits.train[:320]
    a = fit(ours, train, digits.validation, key=KEY, params=params)
    b = fit(theirs, train, digits.validation, key=KEY, params={"params": params})
    for x, y in zip(jax.tree.leaves(a.params), jax.tree.leaves(b.params["params"]), strict=True):
        assert np.allclose(x, y, atol=1e-5)
    assert b.history[0].validation_loss == pytest.approx(a.history[0].validation_loss, rel=1e-4)
    images = digits.test.images[:9]
    assert np.allclose(
        predict(ours.model, a.params, images), predict(theirs.model, b.params, images), atol=1e-4
    )


def test_batch_statistics_are_learned_kept_and_used(digits: Dataset, tmp_path: Path) -> None:
    config = Config(SPEC, epochs=6, ema_decay=0.9)
    start = init_state(config, KEY)
    assert set(start.params) == {"params"}
    assert start.model_state is not None
    whole = fit(config, digits.train, digits.validation, key=KEY)
    assert whole.state.model_state is not None
    assert not equal(start.model_state, whole.state.model_state)
    assert set(whole.params) == {"params", "batch_stats"}
    assert equal(whole.params["batch_stats"], whole.state.model_state["batch_stats"])
    assert whole.history[-1].validation_accuracy > 0.8
    scores = evaluate(SPEC, whole.params, digits.test)
    assert scores.accuracy > 0.8
    wrong = {**whole.params, "batch_stats": start.model_state["batch_stats"]}
    assert evaluate(SPEC, wrong, digits.test).accuracy < scores.accuracy
    # a stopped run resumes through its checkpoint, bit for bit
    first = fit(Config(SPEC, epochs=2, ema_decay=0.9), digits.train, key=KEY)
    checkpoint.save(tmp_path / "state.safetensors", first.state, {})
    state, _ = checkpoint.load(tmp_path / "state.safetensors", abstract_state(config))
    second = fit(config, digits.train, digits.validation, state=state)
    assert equal(second.params, whole.params)
    params, _ = checkpoint.load_params(tmp_path / "state.safetensors")
    assert equal(params, first.params)


@pytest.mark.parametrize("spec", [SPEC, FlaxModel(Noisy())], ids=["dropout", "noise"])
def test_randomness_is_of_training_alone(spec: FlaxModel, digits: Dataset) -> None:
    config = Config(spec)
    state = init_state(config, KEY)
    batch = digits.train[:32]
    _, one = train_step(config, HyperParams(), state, batch)
    _, same = train_step(config, HyperParams(), state, batch)
    _, other = train_step(config, HyperParams(), state._replace(key=jax.random.key(5)), batch)
    assert one.loss == same.loss != other.loss
    images = digits.test.images[:5]
    assert equal(apply(spec, state.eval_params, images), apply(spec, state.eval_params, images))


def test_many_runs_keep_the_best_and_other_settings(digits: Dataset) -> None:
    config = Config(SPEC, epochs=1)
    many = fit_many(config, digits.train[:320], keys=jax.random.split(KEY, 2))
    alone = fit(config, digits.train[:320], key=jax.random.split(KEY, 2)[1])
    assert equal(many.member(1), alone.params)
    together = fit_many(config, digits.train[:32], keys=jax.random.split(KEY, 2), group_size=2)
    assert np.isfinite(together.histories[1][0].loss)
    kept = fit(
        Config(SPEC, epochs=2, fgsm_epsilon=0.05, clip_norm=1.0, schedule="cosine"),
        digits.train[:320],
        digits.validation,
        key=KEY,
        callback=KeepBest(),
    )
    assert set(kept.params) == {"params", "batch_stats"}


def test_other_functions_take_a_module(digits: Dataset) -> None:
    params = init(SPEC, KEY)
    images = digits.test.images[:3]
    assert inspection.saliency(SPEC, params, images).shape == (3, 28, 28)
    assert intermediates(SPEC, params, images) == ()
    assert SPEC.num_params == sum(leaf.size for leaf in jax.tree.leaves(params["params"]))
    assert str(SPEC) == "ConvNet (softmax)"
    with pytest.raises(SpecError, match="dead_units needs a network with a hidden layer; got ConvNet"):
        inspection.dead_units(SPEC, params, images)
    with pytest.raises(SpecError, match=r"the Flax module ConvNet; for ONNX: mnist_onnx.export_flax"):
        to_onnx(SPEC, params)


def test_more_classes(digits: Dataset) -> None:
    spec = FlaxModel(ConvNet(num_classes=26), num_classes=26)
    result = fit(Config(spec, epochs=1), digits.train[:64], key=KEY)
    assert evaluate(spec, result.params, digits.test).confusion.shape == (26, 26)


class Linear(nnx.Module):
    def __init__(self, *, rngs: nnx.Rngs) -> None:
        self.layer = nnx.Linear(784, 10, rngs=rngs)

    def __call__(self, images: jax.Array) -> jax.Array:
        return self.layer(images.reshape(len(images), -1))


def test_an_nnx_module_is_wrapped_by_flax_itself(digits: Dataset) -> None:
    spec = FlaxModel(nnx.bridge.to_linen(Linear), name="Linear")
    result = fit(Config(spec, epochs=3), digits.train, digits.validation, key=KEY)
    assert result.history[-1].validation_accuracy > 0.85
    assert str(spec) == "Linear (softmax)"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: FlaxModel(ConvNet), "module must be an instance of flax.linen.Module, or have its init"),
        (lambda: FlaxModel(Linear(rngs=nnx.Rngs(0))), "wrap NNX modules: flax.nnx.bridge.to_linen"),
        (lambda: FlaxModel(print), "module must be an instance of flax.linen.Module"),
        (lambda: FlaxModel(ConvNet(), num_classes=1), "num_classes must be from 2 to 1,000; got 1"),
        (lambda: FlaxModel(ConvNet(), output="argmax"), "output must be one of softmax, sigmoid"),
        (lambda: FlaxModel(ConvNet(), name="\x1b[31m"), "name must be short and printable"),
        (lambda: Config(SPEC, dropout=0.5), "dropout and dtype must be those of the module ConvNet itself"),
        (lambda: Config(SPEC, dtype="bfloat16"), "dropout and dtype must be those of the module"),
        (lambda: init(FlaxModel(Mean()), KEY), "Mean must have trainable parameters; its init returned none"),
        (
            lambda: apply(
                FlaxModel(Broken()), init(FlaxModel(Broken()), KEY), np.zeros((2, 28, 28), np.uint8)
            ),
            r"Broken must return logits \[batch, 10\]; got float32 \[2, 3\]",
        ),
        (
            lambda: FlaxModel(Masked()),
            "Masked must be called with images, .*; it needs 'mask' too; give it a",
        ),
        (
            lambda: predict(SHAKY, init(SHAKY, KEY), np.zeros((2, 28, 28), np.uint8)),
            "Noisy must compute without",
        ),
        (lambda: Ensemble((SPEC, SPEC)), "members must be two or more, each an MLP or a CNN"),
        (
            lambda: apply(SPEC, init(MLP((3,)), KEY), np.zeros((2, 28, 28), np.uint8)),
            "params must be those of ConvNet",
        ),
    ],
)
def test_mistakes_raise_one_helpful_line(make: Any, message: str) -> None:
    with pytest.raises(SpecError, match=message) as caught:
        make()
    assert "\n" not in str(caught.value)


def test_a_module_that_cannot_be_static_is_refused() -> None:
    class Listed(nn.Module):
        sizes: Any

        @nn.compact
        def __call__(self, images: jax.Array) -> jax.Array:
            return nn.Dense(10)(images.reshape(len(images), -1))

    with pytest.raises(SpecError, match=r"Listed must be hashable, .*; use tuples for lists"):
        FlaxModel(Listed(np.zeros(3)))


def test_json_keeps_the_name_and_nothing_to_run() -> None:
    config = Config(FlaxModel(ConvNet(num_classes=3), 3, "sigmoid"))
    values = json.loads(json.dumps(to_json(config)))
    assert values["model"] == {"module": "ConvNet", "num_classes": 3, "output": "sigmoid"}
    read = from_json(values)
    assert to_json(read)["model"] == values["model"]
    with pytest.raises(SpecError, match=r"ConvNet is a Flax module, which a run's config.json cannot hold"):
        init(read.model, KEY)
    with pytest.raises(SpecError, match="model must have the fields module, num_classes, output"):
        from_json({**values, "model": {"module": "ConvNet"}})


def test_a_module_with_several_names_for_the_mode() -> None:
    class Deterministic(nn.Module):
        @nn.compact
        def __call__(self, images: jax.Array, deterministic: bool) -> jax.Array:
            hidden = nn.Dropout(0.5, deterministic=deterministic)(images.reshape(len(images), -1))
            return nn.Dense(10)(hidden)

    spec = FlaxModel(Deterministic())
    assert spec.mode(training=True) == {"deterministic": False}
    assert spec.mode(training=False) == {"deterministic": True}
    assert apply(spec, init(spec, KEY), jnp.zeros((2, 28, 28))).shape == (2, 10)
