"""Two and eight devices, simulated on the CPU, equal one: every option, resuming, evaluation, many runs."""

import re
from dataclasses import replace
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from helpers.trees import largest_difference

from mnist_jax import evaluate, predict
from mnist_jax.config.deformation import Deformation
from mnist_jax.config.networks import CNN, MLP, FlaxModel
from mnist_jax.config.training import Config, HyperParams
from mnist_jax.data.datasets import Dataset
from mnist_jax.errors import SpecError
from mnist_jax.parallel.mesh import as_mesh, batch_sharding, replicate
from mnist_jax.training.callbacks import EarlyStopping, KeepBest
from mnist_jax.training.loop import fit
from mnist_jax.training.programs import epoch_program
from mnist_jax.training.start import init_state
from mnist_jax.training.sweep import fit_many

KEY = jax.random.key(0)
EIGHT = jax.devices("cpu")[:8]
TWO = EIGHT[:2]
SPEC = MLP((16,))
BATCH, STEPS = 32, 20


class Normalized(nn.Module):
    """A collection that the network updates itself, from the whole batch."""

    @nn.compact
    def __call__(self, images: jax.Array, train: bool) -> jax.Array:
        hidden = nn.BatchNorm(use_running_average=not train)(
            nn.Conv(4, (3, 3), (4, 4), use_bias=False)(images[..., None])
        )
        hidden = nn.Dropout(0.2, deterministic=not train)(nn.relu(hidden).reshape(len(images), -1))
        return nn.Dense(10)(hidden)


# Each option with the largest difference of a parameter after 20 steps, measured and rounded up.
OPTIONS: dict[str, tuple[Config, float]] = {
    "mlp": (Config(SPEC), 1e-6),
    "cnn": (Config(CNN((4, 6), pool="max")), 1e-6),
    "flax": (Config(FlaxModel(Normalized())), 1e-5),
    "bfloat16": (Config(SPEC, dtype="bfloat16"), 2e-3),
    "dropout": (Config(SPEC, dropout=0.3), 1e-6),
    "deformation": (Config(SPEC, deformation=Deformation(rotate=10, elastic_alpha=20)), 1e-6),
    "fgsm": (Config(SPEC, fgsm_epsilon=0.1), 1e-3),
    "everything else": (
        Config(SPEC, optimizer=optax.lion, schedule="cosine", clip_norm=0.5, ema_decay=0.9, epochs=1),
        1e-6,
    ),
}


@pytest.mark.parametrize("name", OPTIONS)
def test_two_and_eight_devices_equal_one(name: str, digits: Dataset) -> None:
    config, tolerance = OPTIONS[name]
    config = replace(config, epochs=1, batch_size=BATCH)
    train = digits.train[: BATCH * STEPS - 8]  # the last batch is smaller, and divides evenly
    one = fit(config, train, digits.validation, key=KEY)
    for devices in (TWO, EIGHT):
        several = fit(config, train, digits.validation, key=KEY, devices=devices)
        assert {leaf.sharding.num_devices for leaf in jax.tree.leaves(several.state)} == {len(devices)}
        assert largest_difference(one.params, several.params) <= tolerance
        assert one.history[0].validation_loss == pytest.approx(several.history[0].validation_loss, rel=1e-3)


def test_a_repeated_and_a_resumed_run_have_the_same_bits(digits: Dataset) -> None:
    config = Config(SPEC, epochs=4, batch_size=BATCH, dropout=0.2)
    callbacks = [KeepBest(), EarlyStopping(patience=10)]
    sets = digits.train[:96], digits.validation
    whole = fit(config, *sets, key=KEY, callback=callbacks, devices=TWO)
    again = fit(config, *sets, key=KEY, devices=TWO)
    assert largest_difference(again.state.params, whole.state.params) == 0
    half = fit(replace(config, epochs=2), *sets, key=KEY, callback=callbacks, devices=TWO)
    host = jax.tree.map(lambda leaf: leaf if leaf.dtype == KEY.dtype else np.asarray(leaf), half.state)
    rest = fit(config, *sets, state=host, callback=callbacks, devices=TWO)
    assert largest_difference(whole.params, rest.params) == 0
    assert whole.best_epoch == rest.best_epoch


def test_an_uneven_batch_is_said_and_stays_whole(digits: Dataset) -> None:
    config = Config(SPEC, epochs=1, batch_size=33)
    one = fit(config, digits.train[:66], key=KEY)
    with pytest.warns(UserWarning, match=r"batch size 33 should be a multiple of the 2 devices; .* 32 or 34"):
        two = fit(config, digits.train[:66], key=KEY, devices=TWO)
    assert largest_difference(one.params, two.params) <= 1e-6


def test_evaluation_and_prediction_are_shared_out(digits: Dataset) -> None:
    params = fit(Config(SPEC, epochs=1), digits.train[:64], key=KEY).params
    one, two = evaluate(SPEC, params, digits.test), evaluate(SPEC, params, digits.test, devices=TWO)
    assert (one.confusion == two.confusion).all()
    assert float(one.loss) == pytest.approx(float(two.loss), rel=1e-6)
    images = digits.test.images[:7]
    answers = predict(SPEC, params, images, devices=TWO)
    assert answers.shape == (7, 10)
    assert jnp.abs(answers - predict(SPEC, params, images)).max() <= 1e-6
    with pytest.raises(SpecError, match="devices must be None inside jit"):
        jax.jit(lambda images: predict(SPEC, params, images, devices=TWO))(images)
    with pytest.raises(SpecError, match="devices must be None inside jit"):
        jax.jit(lambda params: predict(SPEC, params, images, devices=TWO))(params)


def test_each_device_trains_its_share_of_many_runs(digits: Dataset) -> None:
    config, keys = Config(SPEC, epochs=2), jax.random.split(KEY, 5)
    sets = digits.train[:128], digits.validation
    rates = HyperParams(learning_rate=[1e-3, 2e-3, 3e-3, 4e-3, 5e-3])
    one = fit_many(config, *sets, keys=keys, hyperparams=rates)
    two = fit_many(config, *sets, keys=keys, hyperparams=rates, devices=TWO)
    assert largest_difference(one.params, two.params) <= 1e-5
    assert [len(history) for history in two.histories] == [2] * 5
    apart = fit_many(config, *sets, keys=keys, hyperparams=rates, group_size=1, devices=TWO)
    alone = fit(config, *sets, key=keys[3], hyperparams=HyperParams(4e-3))
    assert largest_difference(apart.member(3), alone.params) == 0


def compiled_epoch(config: Config, digits: Dataset, devices: Any) -> Any:
    mesh = as_mesh(devices)
    state = init_state(config, KEY)
    arguments = replicate((HyperParams(jnp.float32(1e-3)), state, digits.train[:128]), mesh)
    return epoch_program(config, mesh).lower(*arguments).compile()


@pytest.mark.parametrize("config", [Config(MLP((128,))), Config(CNN((8, 16)))], ids=["mlp", "cnn"])
def test_each_device_does_half_of_the_work_and_they_meet_once_a_step(config: Config, digits: Dataset) -> None:
    config = replace(config, batch_size=64)
    one, two = compiled_epoch(config, digits, TWO[:1]), compiled_epoch(config, digits, TWO)
    assert two.cost_analysis()["flops"] < 0.7 * one.cost_analysis()["flops"]
    loops = [
        part
        for part in re.split(r"\n(?=%|ENTRY)", two.as_text())
        if re.search(r"all-reduce(-start)?\(", part)
    ]
    assert len(loops) == 1, "of all computations, the body of the loop over steps alone communicates"
    assert len(re.findall(r"all-reduce(-start)?\(", loops[0])) == 1
    assert "all-gather" not in two.as_text()
    assert "all-reduce" not in one.as_text()


def test_batches_without_devices_are_those_of_one_device(digits: Dataset) -> None:
    config = Config(SPEC, epochs=1)
    plain = fit(config, digits.train[:64], key=KEY)
    one = fit(config, digits.train[:64], key=KEY, devices=TWO[1:])
    assert largest_difference(plain.params, one.params) == 0
    assert one.params["Dense_0"]["bias"].devices() == {TWO[1]}


@pytest.mark.parametrize(
    ("devices", "message"),
    [
        (2, "devices must be a list of JAX devices or a mesh; got int; all of them: jax.devices()"),
        (["cpu:0"], "devices must be a list of JAX devices"),
        ([], "devices must be one or more, each once; got 0"),
        ([TWO[0], TWO[0]], "each once; got 2, 1 of them different"),
    ],
)
def test_other_devices_are_refused(devices: Any, message: str, digits: Dataset) -> None:
    with pytest.raises(SpecError) as caught:
        fit(Config(SPEC, epochs=1), digits.train[:64], key=KEY, devices=devices)
    assert message in str(caught.value)


def test_a_mesh_of_any_shape_is_taken(digits: Dataset) -> None:
    mesh = jax.make_mesh((2, 1), ("a", "b"), devices=TWO)
    result = fit(Config(SPEC, epochs=1), digits.train[:64], key=KEY, devices=mesh)
    expected = fit(Config(SPEC, epochs=1), digits.train[:64], key=KEY, devices=TWO)
    assert largest_difference(result.params, expected.params) == 0
    assert batch_sharding(as_mesh(mesh) or mesh).num_devices == 2
