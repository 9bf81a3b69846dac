"""Learning rate schedules."""

import functools
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mnist_jax.config.networks import MLP
from mnist_jax.config.optimizers import SCHEDULES, Optimizer, Schedule, parse
from mnist_jax.config.training import Config, HyperParams
from mnist_jax.data.datasets import Dataset
from mnist_jax.data.examples import Examples
from mnist_jax.errors import SpecError
from mnist_jax.training.loop import fit
from mnist_jax.training.optimizer import learning_rate_at
from mnist_jax.training.start import init_state
from mnist_jax.training.step import train_epoch, train_step

KEY = jax.random.key(3)
CONFIG = Config(MLP((16,), ("relu",)), epochs=2)


@pytest.mark.parametrize(
    ("schedule", "factors"),
    [
        (Schedule("constant"), {0: 1, 1000: 1}),
        (Schedule("cosine", {}, 100), {0: 1, 50: 0.5, 100: 0, 150: 0}),
        (Schedule("cosine", {"end_factor": 0.2}, 100), {0: 1, 50: 0.6, 100: 0.2, 150: 0.2}),
        (Schedule("warmup_cosine", {"warmup_fraction": 0.2}, 100), {0: 0, 10: 0.5, 20: 1, 60: 0.5, 100: 0}),
        (Schedule("warmup_cosine", {"end_factor": 0.5}, 100), {5: 0.5, 10: 1, 55: 0.75, 100: 0.5}),
        (Schedule("exponential", {"end_factor": 0.01}, 100), {0: 1, 50: 0.1, 100: 0.01, 200: 0.01}),
        (Schedule("piecewise", {}, 100), {0: 1, 49: 1, 51: 0.1, 74: 0.1, 76: 0.01, 100: 0.01}),
        (Schedule("piecewise", {"boundaries": (0.1,), "scale": 0.5}, 100), {9: 1, 11: 0.5, 100: 0.5}),
        (Schedule("piecewise", {"boundaries": (0.5, 0.51), "scale": 0.5}, 10), {4: 1, 6: 0.25}),
        (Schedule("warmup_cosine", {"warmup_fraction": 0.0}, 100), {0: 1, 50: 0.5, 100: 0}),
        (Schedule("warmup_cosine", {"warmup_fraction": 0.99}, 10), {0: 0, 9: 1, 10: 0}),
        *((Schedule(name, {}, 1), {0: 1}) for name in SCHEDULES),
    ],
    ids=repr,
)
def test_schedules_have_hand_computed_factors(schedule: Schedule, factors: dict[int, float]) -> None:
    config = replace(CONFIG, schedule=schedule)
    for step, factor in factors.items():
        rate = learning_rate_at(config, HyperParams(jnp.float32(0.5)), jnp.int32(step))
        assert float(rate) == pytest.approx(0.5 * factor, abs=1e-6), step


@pytest.mark.slow
@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.usefixtures("strict_dtypes")
def test_every_schedule_learns_and_spans_the_whole_run(name: str, digits: Dataset) -> None:
    config = replace(CONFIG, schedule=Schedule(name))
    run = fit(config, digits.train, key=KEY)
    assert run.history[-1].loss < 0.95 * run.history[0].loss
    steps = 2 * -(-len(digits.train.labels) // 32)
    explicit = fit(replace(config, schedule=Schedule(name, steps=steps)), digits.train, key=KEY)
    jax.tree.map(np.testing.assert_array_equal, run.params, explicit.params)
    short = fit(replace(config, schedule=Schedule(name, steps=5)), digits.train, key=KEY)
    differs = not np.array_equal(short.params["Dense_1"]["bias"], explicit.params["Dense_1"]["bias"])
    assert differs == (name != "constant")


def test_a_single_step_needs_the_schedules_length(digits: Dataset) -> None:
    batch = Examples(digits.train.images[:32], digits.train.labels[:32])
    config = replace(CONFIG, schedule=Schedule("cosine"))
    with pytest.raises(SpecError, match=r"must know how long its schedule is; .*give it its number of steps"):
        train_step(config, HyperParams(), init_state(config, KEY), batch)


@pytest.mark.slow
def test_rates_of_scheduled_runs_can_be_swept(digits: Dataset) -> None:
    config = replace(
        CONFIG, optimizer=Optimizer("nesterov"), schedule=Schedule("warmup_cosine"), clip_norm=1.0
    )
    rates = jnp.float32([0.01, 0.1])
    states = jax.vmap(functools.partial(init_state, config))(jax.random.split(KEY, 2))
    epoch = functools.partial(train_epoch, config)
    many, _ = jax.jit(jax.vmap(epoch, in_axes=(HyperParams(0, None, None), 0, None)))(
        HyperParams(rates, 0.0, 0.0), states, digits.train
    )
    for i in range(2):
        lone, _ = jax.jit(epoch)(
            HyperParams(rates[i], 0.0, 0.0), jax.tree.map(lambda x, i=i: x[i], states), digits.train
        )
        mine = jax.tree.map(lambda x, i=i: x[i], many.params)
        jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-4), mine, lone.params)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("linear", "schedule must be one of constant, cosine, .*; got 'linear'"),
        ("constant:end_factor=0.5", "constant has no options; got 'end_factor'"),
        ("exponential:end_factor=0", "exponential's end_factor must be a number below 1, above 0; got 0.0"),
        ("piecewise:boundaries=0.5", "piecewise's boundaries must be one or more numbers below 1; got 0.5"),
        ("piecewise:boundaries=0.5/0.2", r"piecewise's boundaries must be increasing; got \(0.5, 0.2\)"),
        ("cosine:end_factor=nan", "cosine's end_factor must be a number below 1, at least 0; got nan"),
    ],
)
def test_invalid_schedules_are_refused(text: str, message: str) -> None:
    with pytest.raises(SpecError, match=message):
        parse(Schedule, text)
