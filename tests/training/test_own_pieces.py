"""Optimizers, schedules and losses of one's own, as Python functions in a `Config`."""

import functools
import json
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from helpers.trees import largest_difference

from mnist_jax.config.functions import Function
from mnist_jax.config.networks import MLP
from mnist_jax.config.optimizers import Optimizer, Schedule
from mnist_jax.config.serialization import from_json, to_json
from mnist_jax.config.training import Config, HyperParams
from mnist_jax.data.datasets import Dataset
from mnist_jax.errors import DivergenceError, InputError, SpecError
from mnist_jax.evaluation.evaluate import evaluate
from mnist_jax.training.loop import fit
from mnist_jax.training.sweep import fit_many

KEY = jax.random.key(0)
SPEC = MLP((8,))


def own_adam(learning_rate: Any) -> optax.GradientTransformation:
    return optax.adam(learning_rate, eps=1e-7)


def test_text_is_taken_as_on_the_command_line() -> None:
    text = Config(SPEC, optimizer="sgd:momentum=0.9", schedule="cosine:end_factor=0.1")
    assert text == Config(
        SPEC,
        optimizer=Optimizer("sgd", {"momentum": 0.9}),
        schedule=Schedule("cosine", {"end_factor": 0.1}),
    )
    assert MLP((8, 4), "tanh") == MLP((8, 4), ("tanh", "tanh"))
    assert MLP((8, 4)) == MLP((8, 4), ("relu", "relu"))
    with pytest.raises(SpecError, match="optimizer must be a name, or NAME:OPTION=VALUE"):
        Config(SPEC, optimizer="sgd:momentum")


def test_an_optax_function_trains_as_the_optimizer_of_that_name(digits: Dataset) -> None:
    config = Config(SPEC, epochs=1)
    builtin = fit(config, digits.train[:320], key=KEY)
    own = fit(Config(SPEC, epochs=1, optimizer=own_adam), digits.train[:320], key=KEY)
    assert largest_difference(builtin.params, own.params) < 1e-5
    other = fit(Config(SPEC, epochs=1, optimizer=optax.sgd), digits.train[:320], key=KEY)
    assert largest_difference(builtin.params, other.params) > 1e-3


def test_clipping_and_weight_decay_apply_to_an_own_optimizer(digits: Dataset) -> None:
    for settings, hyperparams in (
        ({"clip_norm": 0.1}, HyperParams(1e-2)),
        ({}, HyperParams(1e-2, weight_decay=0.5)),
    ):
        results = [
            fit(
                Config(SPEC, epochs=1, optimizer=optimizer, **settings),
                digits.train[:320],
                key=KEY,
                hyperparams=hyperparams,
            )
            for optimizer in ("sgd", optax.sgd)
        ]
        assert largest_difference(*[result.params for result in results]) < 1e-5


def test_a_schedule_function_gives_the_learning_rate(digits: Dataset) -> None:
    builtin = Config(SPEC, epochs=2, schedule=Schedule("cosine"))
    own = Config(SPEC, epochs=2, schedule=optax.cosine_decay_schedule(1e-3, 20))
    train = digits.train[:320]  # 10 steps an epoch
    assert largest_difference(fit(builtin, train, key=KEY).params, fit(own, train, key=KEY).params) < 1e-5
    with pytest.raises(SpecError, match=r"learning_rate must be left out where a function, .*; got 0.01"):
        fit(own, train, key=KEY, hyperparams=HyperParams(0.01))
    with pytest.raises(SpecError, match="learning_rate must be left out"):
        fit_many(own, train, keys=KEY[None], hyperparams=HyperParams([0.01]))


def focal(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """Lin et al. 2017, with gamma 2."""
    chances = jax.nn.softmax(logits)[jnp.arange(len(labels)), labels]
    return -((1 - chances) ** 2) * jnp.log(chances)


def test_a_loss_function_is_trained_with_and_reported(digits: Dataset) -> None:
    train, validation = digits.train[:320], digits.validation
    builtin = fit(Config(SPEC, epochs=1), train, validation, key=KEY)
    same = optax.softmax_cross_entropy_with_integer_labels
    own = fit(Config(SPEC, epochs=1, loss=same), train, validation, key=KEY)
    assert largest_difference(builtin.params, own.params) < 1e-5
    assert own.history[0].loss == pytest.approx(builtin.history[0].loss, rel=1e-5)
    focused = fit(Config(SPEC, epochs=1, loss=focal), train, validation, key=KEY)
    assert validation is not None
    expected = evaluate(SPEC, focused.params, validation, loss=focal).loss
    assert focused.history[0].validation_loss == pytest.approx(float(expected))
    assert float(expected) < 0.9 * float(evaluate(SPEC, focused.params, validation).loss)
    with pytest.raises(SpecError, match=r"label_smoothing must be 0 where the loss is a function, .*focal"):
        fit(Config(SPEC, loss=focal), train, key=KEY, hyperparams=HyperParams(label_smoothing=0.1))


@pytest.mark.parametrize(
    ("config", "error", "message"),
    [
        ({"optimizer": lambda rate: rate}, SpecError, "must return an optax.GradientTransformation"),
        (
            {"optimizer": lambda rate: optax.inject_hyperparams(optax.adam)(learning_rate=rate)},
            SpecError,
            "must take its learning rate in each step; it keeps that of its start in its state",
        ),
        ({"optimizer": optax.lbfgs}, SpecError, "update parameters from their gradients alone, .* 'value'"),
        ({"schedule": lambda step: jnp.ones(2)}, SpecError, r"must return one number; got \[2\]"),
        ({"loss": lambda logits, labels: 0.5}, InputError, r"one float per example, \[32\]; got float"),
        ({"loss": lambda logits, labels: logits}, InputError, r"got float32 \[32, 10\]"),
        ({"loss": lambda logits, labels: labels}, InputError, r"got int32 \[32\]"),
    ],
)
def test_functions_that_return_something_else_are_refused(
    digits: Dataset, config: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        fit(Config(SPEC, **config), digits.train[:64], key=KEY)


def test_divergence_names_the_schedule_function(digits: Dataset) -> None:
    def steep(step: jax.Array) -> float:
        return 1e30

    with pytest.raises(DivergenceError, match=r"try lower learning rates than .*steep gives"):
        fit(Config(SPEC, optimizer="sgd", schedule=steep), digits.train, key=KEY)


def test_json_keeps_the_names_of_functions_and_nothing_to_run() -> None:
    config = Config(SPEC, optimizer=own_adam, loss=focal, schedule=functools.partial(jnp.power, 0.1))
    values = json.loads(json.dumps(to_json(config)))
    assert values["optimizer"]["function"].endswith("own_adam")
    assert values["loss"]["function"].endswith("focal")
    read = from_json(values)
    assert str(read.optimizer) == str(config.optimizer)
    assert json.loads(json.dumps(to_json(read))) == values
    with pytest.raises(SpecError, match=r"own_adam is a Python function, which .* train on from Python"):
        assert isinstance(read.optimizer, Function)
        read.optimizer(0.1)
    with pytest.raises(SpecError, match="a function's name must be short and printable"):
        from_json({**values, "loss": {"function": "\x1b[31m"}})


def test_an_unhashable_function_is_refused() -> None:
    class Unhashable:
        __hash__ = None  # type: ignore[assignment]

        def __call__(self, rate: Any) -> Any:
            return optax.adam(rate)

    with pytest.raises(SpecError, match="Unhashable must be hashable, to be part of a config"):
        Config(SPEC, optimizer=Unhashable())


def test_a_config_without_functions_is_written_as_before() -> None:
    values = to_json(Config(SPEC))
    assert "loss" not in values
    assert "num_classes" not in values["model"]
    assert np.array_equal(sorted(values["optimizer"]), ["name", "options"])
