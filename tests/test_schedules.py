"""Learning rates over a run."""

import functools
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mnist_jax.cli.options import parse
from mnist_jax.datasets import Dataset
from mnist_jax.errors import SpecError
from mnist_jax.loop import fit
from mnist_jax.networks import MLP
from mnist_jax.optimizers import SCHEDULES, Optimizer, Schedule
from mnist_jax.specs import Config, Hyper
from mnist_jax.train import init_state, train_epoch, train_step
from mnist_jax.types import Examples
from mnist_jax.updates import scheduled_rate

KEY = jax.random.key(3)
CONFIG = Config(MLP((16,), ("relu",)), epochs=2)


@pytest.mark.parametrize(
    ("schedule", "factors"),
    [
        (Schedule("constant"), {0: 1, 1000: 1}),
        (Schedule("cosine", {}, 100), {0: 1, 50: 0.5, 100: 0, 150: 0}),
        (Schedule("cosine", {"final": 0.2}, 100), {0: 1, 50: 0.6, 100: 0.2, 150: 0.2}),
        (Schedule("warmup_cosine", {"warmup": 0.2}, 100), {0: 0, 10: 0.5, 20: 1, 60: 0.5, 100: 0}),
        (Schedule("warmup_cosine", {"final": 0.5}, 100), {5: 0.5, 10: 1, 55: 0.75, 100: 0.5}),
        (Schedule("exponential", {"final": 0.01}, 100), {0: 1, 50: 0.1, 100: 0.01, 200: 0.01}),
        (Schedule("piecewise", {}, 100), {0: 1, 49: 1, 51: 0.1, 74: 0.1, 76: 0.01, 100: 0.01}),
        (Schedule("piecewise", {"at": (0.1,), "factor": 0.5}, 100), {9: 1, 11: 0.5, 100: 0.5}),
        (Schedule("piecewise", {"at": (0.5, 0.51), "factor": 0.5}, 10), {4: 1, 6: 0.25}),
        (Schedule("warmup_cosine", {"warmup": 0.0}, 100), {0: 1, 50: 0.5, 100: 0}),
        (Schedule("warmup_cosine", {"warmup": 0.99}, 10), {0: 0, 9: 1, 10: 0}),
        *((Schedule(name, {}, 1), {0: 1}) for name in SCHEDULES),
    ],
    ids=repr,
)
def test_schedules_have_the_factors_that_were_worked_out_by_hand(
    schedule: Schedule, factors: dict[int, float]
) -> None:
    config = replace(CONFIG, schedule=schedule)
    for step, factor in factors.items():
        rate = scheduled_rate(config, Hyper(jnp.float32(0.5)), jnp.int32(step))
        assert float(rate) == pytest.approx(0.5 * factor, abs=1e-6), step


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.usefixtures("strict_dtypes")
def test_every_schedule_learns_and_is_spread_over_the_whole_run(name: str, digits: Dataset) -> None:
    config = replace(CONFIG, schedule=Schedule(name))
    run = fit(config, digits.train, key=KEY)
    assert run.history[-1].loss < 0.95 * run.history[0].loss
    steps = 2 * -(-len(digits.train.labels) // 32)
    told = fit(replace(config, schedule=Schedule(name, steps=steps)), digits.train, key=KEY)
    jax.tree.map(np.testing.assert_array_equal, run.params, told.params)
    short = fit(replace(config, schedule=Schedule(name, steps=5)), digits.train, key=KEY)
    differs = not np.array_equal(short.params["Dense_1"]["bias"], told.params["Dense_1"]["bias"])
    assert differs == (name != "constant")


def test_a_lone_step_must_know_how_long_its_schedule_is(digits: Dataset) -> None:
    batch = Examples(digits.train.images[:32], digits.train.labels[:32])
    config = replace(CONFIG, schedule=Schedule("cosine"))
    with pytest.raises(SpecError, match=r"must know how long its schedule is; .*give it its number of steps"):
        train_step(config, Hyper(), init_state(config, KEY), batch)


def test_rates_of_scheduled_runs_can_be_swept(digits: Dataset) -> None:
    config = replace(
        CONFIG, optimizer=Optimizer("nesterov"), schedule=Schedule("warmup_cosine"), clip_norm=1.0
    )
    rates = jnp.float32([0.01, 0.1])
    states = jax.vmap(functools.partial(init_state, config))(jax.random.split(KEY, 2))
    epoch = functools.partial(train_epoch, config)
    many, _ = jax.jit(jax.vmap(epoch, in_axes=(Hyper(0, None, None), 0, None)))(
        Hyper(rates, 0.0, 0.0), states, digits.train
    )
    for i in range(2):
        lone, _ = jax.jit(epoch)(
            Hyper(rates[i], 0.0, 0.0), jax.tree.map(lambda x, i=i: x[i], states), digits.train
        )
        mine = jax.tree.map(lambda x, i=i: x[i], many.params)
        jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-4), mine, lone.params)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("linear", "schedule must be one of constant, cosine, .*; got 'linear'"),
        ("constant:final=0.5", "constant has no options; got 'final'"),
        ("exponential:final=0", "exponential's final must be a number below 1, above 0; got 0.0"),
        ("piecewise:at=0.5", "piecewise's at must be one or more numbers below 1; got 0.5"),
        ("piecewise:at=0.5/0.2", r"piecewise's at must be increasing; got \(0.5, 0.2\)"),
        ("cosine:final=nan", "cosine's final must be a number below 1, at least 0; got nan"),
    ],
)
def test_schedules_that_cannot_be(text: str, message: str) -> None:
    with pytest.raises(SpecError, match=message):
        parse(Schedule, text)
