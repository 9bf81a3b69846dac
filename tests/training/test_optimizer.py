"""Optimizers, clipping and averages, compared with optax or with hand-computed values."""

import functools
import inspect
from dataclasses import replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from helpers.trees import leaves_close

from mnist_jax.config.networks import MLP
from mnist_jax.config.optimizers import OPTIMIZERS, SCHEDULES, Optimizer, Schedule, parse
from mnist_jax.config.training import Config, HyperParams, default_hyperparams
from mnist_jax.data.datasets import Dataset
from mnist_jax.data.examples import Examples
from mnist_jax.errors import SpecError
from mnist_jax.evaluation.metrics import cross_entropy
from mnist_jax.nn.model import apply
from mnist_jax.training import checkpoint
from mnist_jax.training.loop import fit
from mnist_jax.training.optimizer import ema_update
from mnist_jax.training.start import init_state
from mnist_jax.training.step import train_epoch, train_step

KEY = jax.random.key(3)
CONFIG = Config(MLP((16,), ("relu",)), epochs=2)


@pytest.fixture(scope="module")
def batch(digits: Dataset) -> Examples:
    return Examples(digits.train.images[:32], digits.train.labels[:32])


def gradient(config: Config, params: object, batch: Examples) -> object:
    def loss(params: object) -> jax.Array:
        return cross_entropy("softmax", apply(config.model, params, batch.images), batch.labels).mean()

    return jax.grad(loss)(params)


@pytest.mark.slow
@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.usefixtures("strict_dtypes")
def test_every_optimizer_learns_in_one_epoch(name: str, digits: Dataset) -> None:
    config = replace(CONFIG, epochs=1, optimizer=Optimizer(name))
    hyperparams = jax.tree.map(jnp.float32, default_hyperparams(config.optimizer))
    epoch = jax.jit(functools.partial(train_epoch, config))
    state, seen = epoch(hyperparams, init_state(config, KEY), digits.train)
    assert np.isfinite(seen.loss).all()
    assert seen.loss[-8:].mean() < 0.97 * seen.loss[:8].mean()
    assert jax.tree.structure(state) == jax.tree.structure(init_state(config, KEY))


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_optimizer_is_optaxs(name: str, batch: Examples) -> None:
    """Takes two steps: the second depends on all of the optimizer's state."""
    recipe = OPTIMIZERS[name]
    decay = 0.01 if recipe.decays else 0.0
    config = replace(CONFIG, optimizer=Optimizer(name))
    options = {option.replace("eps", "eps"): value for option, value in recipe.options.items()}
    if recipe.decays:
        options["weight_decay"] = decay
    theirs = getattr(optax, recipe.function)(0.01, **options)
    state = init_state(config, KEY)
    params, opt_state = state.params, theirs.init(state.params)
    for _ in range(2):
        updates, opt_state = theirs.update(gradient(config, params, batch), opt_state, params)
        params = optax.apply_updates(params, updates)
        state, _ = train_step(config, HyperParams(0.01, decay), state, batch)
    leaves_close(state.params, params)


@pytest.mark.slow
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_option_is_passed_to_optax_and_has_an_effect(name: str, batch: Examples) -> None:
    recipe = OPTIMIZERS[name]
    known = inspect.signature(getattr(optax, recipe.function)).parameters
    assert {option.replace("eps", "eps") for option in recipe.options} <= set(known)
    coupled = {"adadelta", "lars", "novograd"}  # optax's own decay enters their state
    assert recipe.decays == ("weight_decay" in known and name not in coupled)
    hyperparams, linear = HyperParams(0.01, 0.0), MLP((), ())

    def ten_steps(options: dict[str, object]) -> object:
        config = Config(linear, optimizer=Optimizer(name, options))
        step = jax.jit(functools.partial(train_step, config, hyperparams))
        state = init_state(config, KEY)
        for _ in range(10):
            state, _ = step(state, batch)
        return state.params["Dense_0"]["bias"]

    plain = ten_steps({})
    for option, default in recipe.options.items():
        others = {"momentum": 0.5} if option == "nesterov" and not recipe.options["momentum"] else {}
        start = ten_steps(others) if others else plain
        changed = ten_steps({**others, option: not default if isinstance(default, bool) else 0.8})
        assert not np.array_equal(start, changed), option


def test_weight_decay_is_decoupled_for_every_optimizer(batch: Examples) -> None:
    state = init_state(CONFIG, KEY)
    grads = gradient(CONFIG, state.params, batch)
    for name, theirs in (
        ("adam", optax.adamw(0.01, eps=1e-7, weight_decay=0.1)),
        ("nadam", optax.nadamw(0.01, weight_decay=0.1)),
        ("adamax", optax.adamaxw(0.01, weight_decay=0.1)),
        ("sgd", optax.chain(optax.add_decayed_weights(0.1), optax.sgd(0.01))),
    ):
        config = replace(CONFIG, optimizer=Optimizer(name))
        stepped, _ = train_step(config, HyperParams(0.01, 0.1), init_state(config, KEY), batch)
        updates, _ = theirs.update(grads, theirs.init(state.params), state.params)
        leaves_close(stepped.params, optax.apply_updates(state.params, updates))


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_weight_decay_never_enters_the_optimizer_state(name: str, batch: Examples) -> None:
    config = replace(CONFIG, optimizer=Optimizer(name))
    with_decay, without = (
        train_step(config, HyperParams(0.01, decay), init_state(config, KEY), batch)[0]
        for decay in (1.0, 0.0)
    )
    leaves_close(with_decay.opt_state, without.opt_state, 0)
    assert not np.array_equal(with_decay.params["Dense_1"]["kernel"], without.params["Dense_1"]["kernel"])


@pytest.mark.parametrize("name", ["sgd", "momentum", "rmsprop", "lars"])
def test_zero_momentum_is_the_limit_of_small_momentum(name: str, batch: Examples) -> None:
    def after_two_steps(momentum: float) -> object:
        config = replace(CONFIG, optimizer=Optimizer(name, {"momentum": momentum}))
        state = init_state(config, KEY)
        for _ in range(2):
            state, _ = train_step(config, HyperParams(0.1), state, batch)
        return state.params

    leaves_close(after_two_steps(0), after_two_steps(1e-30))


def test_a_state_of_another_optimizer_is_refused(digits: Dataset, batch: Examples) -> None:
    state = init_state(CONFIG, KEY)
    for name in ("momentum", "adamw", "lion", "rmsprop"):
        config = replace(CONFIG, optimizer=Optimizer(name))
        with pytest.raises(SpecError, match=f"one of its config's optimizer, {name}; got another's"):
            train_step(config, HyperParams(), state, batch)
        with pytest.raises(SpecError, match=f"one of its config's optimizer, {name}; got another's"):
            train_epoch(config, HyperParams(), state, digits.train)


def test_adam_is_the_default() -> None:
    assert str(CONFIG.optimizer) == "adam"
    assert default_hyperparams(CONFIG.optimizer) == HyperParams()


@pytest.mark.parametrize("factor", [0.1, 10])
def test_clipping_bounds_the_norm_and_leaves_the_direction(factor: float, batch: Examples) -> None:
    state = init_state(CONFIG, KEY)
    grads = gradient(CONFIG, state.params, batch)
    norm = float(optax.tree.norm(grads))
    config = replace(CONFIG, optimizer=Optimizer("sgd"), clip_norm=factor * norm)
    stepped, _ = train_step(config, HyperParams(1.0), init_state(config, KEY), batch)
    leaves_close(stepped.params, jax.tree.map(lambda p, g: p - min(factor, 1) * g, state.params, grads))


def test_the_average_is_bias_corrected() -> None:
    values, decay = np.float32([3, -1, 4, 1, -5]), 0.9
    average = {"w": jnp.float32(100)}
    for step, value in enumerate(values, start=1):
        average = ema_update(decay, average, {"w": jnp.float32(value)}, jnp.int32(step))
        weights = decay ** np.arange(step)[::-1]
        assert float(average["w"]) == pytest.approx(weights @ values[:step] / weights.sum(), abs=1e-4)


@pytest.mark.slow
def test_the_average_is_scored_and_exported(digits: Dataset, tmp_path: Path) -> None:
    config = replace(CONFIG, ema_decay=0.98)
    run = fit(config, digits.train, digits.validation, key=KEY)
    plain = fit(CONFIG, digits.train, digits.validation, key=KEY)
    leaves_close(run.state.params, plain.state.params, 1e-5)  # averaging does not affect training
    assert run.params is run.state.ema_params
    assert plain.params is plain.state.params
    assert digits.validation is not None
    for params, record in ((run.params, run.history[-1]), (plain.params, plain.history[-1])):
        logits = apply(config.model, params, digits.validation.images)
        loss = float(cross_entropy("softmax", logits, digits.validation.labels).mean())
        assert record.validation_loss == pytest.approx(loss, rel=1e-4)
    assert run.history[-1].validation_loss != plain.history[-1].validation_loss
    checkpoint.save(tmp_path / "c.safetensors", run.state, {})
    kept, _ = checkpoint.load_params(tmp_path / "c.safetensors")
    leaves_close(kept, run.params, 0)


@pytest.mark.slow
@pytest.mark.usefixtures("strict_dtypes")
def test_a_run_with_every_option_resumes_bit_identically(digits: Dataset) -> None:
    config = replace(
        CONFIG,
        epochs=3,
        optimizer=Optimizer("rmsprop", {"centered": True, "momentum": 0.5}),
        schedule=Schedule("warmup_cosine"),
        clip_norm=1.0,
        ema_decay=0.99,
    )
    whole = fit(config, digits.train, key=KEY)
    half = fit(config, digits.train, key=KEY, callback=lambda record, _: record.epoch == 1)
    rest = fit(config, digits.train, state=half.state)
    assert [record.epoch for record in rest.history] == [2, 3]
    leaves_close(rest.state._replace(key=0), whole.state._replace(key=0), 0)


def test_names_and_options_survive_the_command_line() -> None:
    for kind, table in ((Optimizer, OPTIMIZERS), (Schedule, SCHEDULES)):
        for name in table:
            assert str(kind(name)) == name
            assert parse(kind, name) == kind(name)
    for kind, text in (
        (Optimizer, "sgd:momentum=0.5,nesterov=true"),
        (Schedule, "piecewise:boundaries=0.2/0.4/0.8,scale=0.5"),
        (Schedule, "warmup_cosine:warmup_fraction=0.05"),
    ):
        assert str(parse(kind, text)) == text


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("adams", "optimizer must be one of adam, .*; got 'adams'"),
        ("adam:b3=0.5", "adam must have options among b1, b2, eps; got 'b3'"),
        ("sign_sgd:b1=0.5", "sign_sgd has no options; got 'b1'"),
        ("adam:b1=1", "adam's b1 must be a number below 1, at least 0; got 1.0"),
        ("adam:b1=high", "adam's b1 must be a number below 1, at least 0; got 'high'"),
        ("sgd:nesterov=0.5", "sgd's nesterov must be true or false; got 0.5"),
        ("adam:b1", "optimizer must be a name, or NAME:OPTION=VALUE,OPTION=VALUE; got 'adam:b1'"),
        ("adam:", "optimizer must be a name"),
        ("adam:b1=0.9,b1=0.8", "each option must be given only once; got 'adam:b1=0.9,b1=0.8'"),
        ("adam:b1=0.1=2", "optimizer must be a name"),
    ],
)
def test_invalid_optimizers_are_refused(text: str, message: str) -> None:
    with pytest.raises(SpecError, match=message):
        parse(Optimizer, text)


def test_settings_of_a_wrong_type_are_refused() -> None:
    for make, message in (
        (lambda: Optimizer("adam", 3), "adam's options must be a mapping; got 3"),
        (lambda: Schedule("cosine", {}, 0), "a schedule's steps must be a whole number of at least 1; got 0"),
        (lambda: replace(CONFIG, optimizer="sgdm"), "optimizer must be one of adam, .*; got 'sgdm'"),
        (lambda: replace(CONFIG, schedule="cosin"), "schedule must be one of constant, .*; got 'cosin'"),
        (lambda: replace(CONFIG, clip_norm=0), "clip norm must be a number, above 0; got 0"),
        (lambda: replace(CONFIG, ema_decay=1), "EMA decay must be a number below 1, above 0; got 1"),
    ):
        with pytest.raises(SpecError, match=message):
            make()
