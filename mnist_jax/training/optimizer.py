"""The optimizer: gradient clipping, the optax update, weight decay, the schedule and the moving average.

All of it is built inside the trace, so that learning rate and weight decay may be traced and swept.
"""

import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from mnist_jax.config.functions import Function
from mnist_jax.config.optimizers import OPTIMIZERS, Schedule
from mnist_jax.config.training import Config, HyperParams
from mnist_jax.errors import SpecError
from mnist_jax.types import Array, Params, Scalar


def make_optimizer(config: Config, learning_rate: Any, weight_decay: Any) -> optax.GradientTransformation:
    """Builds the optimizer of `config` for one step.

    Weight decay is decoupled for every optimizer (Loshchilov and Hutter 2019): it never enters a moment.

    Args:
        config: holds the optimizer and `clip_norm`.
        learning_rate: the step's learning rate; may be traced.
        weight_decay: the weight decay; may be traced.
    """
    if isinstance(config.optimizer, Function):
        return _own(config, config.optimizer, learning_rate, weight_decay)
    recipe = OPTIMIZERS[config.optimizer.name]
    options: dict[str, Any] = dict(config.optimizer.options)
    if recipe.function in ("sgd", "rmsprop") and options["momentum"] == 0:
        options["momentum"] = None  # with 0, optax would carry a useless trace
    if recipe.decays:
        options["weight_decay"] = weight_decay
    update = getattr(optax, recipe.function)(learning_rate, **options)
    return _chained(config, update, None if recipe.decays else -learning_rate * weight_decay)


def _own(
    config: Config, factory: Function, learning_rate: Any, weight_decay: Any
) -> optax.GradientTransformation:
    """The optimizer of a function of the learning rate."""
    update = factory(learning_rate)
    if not isinstance(update, optax.GradientTransformation):
        raise SpecError(
            f"optimizer {factory} must return an optax.GradientTransformation for a learning rate; "
            f"got {type(update).__name__}"
        )
    if fault := _fault(factory):
        raise SpecError(f"optimizer {factory} must {fault}")
    return _chained(config, update, -learning_rate * weight_decay)


@functools.lru_cache(maxsize=64)
def _fault(factory: Function) -> str | None:
    """What an optimizer must do and does not; None for nothing."""
    params = {"w": jnp.zeros((2, 2))}
    with jax.ensure_compile_time_eval():
        try:
            states = [factory(rate).init(params) for rate in (0.0, 1.0)]
            leaves = [[np.asarray(leaf) for leaf in jax.tree.leaves(state)] for state in states]
            factory(0.0).update(params, states[0], params)
        except TypeError as error:
            if "argument" not in str(error):
                return None
            reason = " ".join(str(error).split())  # as of optax.lbfgs, which searches along a line
            return f"update parameters from their gradients alone, without the loss; got: {reason}"
        except Exception:  # it takes other parameters only
            return None
    # The first state must not depend on the learning rate, which would then never change.
    if all(np.array_equal(a, b) for a, b in zip(*leaves, strict=True)):
        return None
    return (
        "take its learning rate in each step; it keeps that of its start in its state, as "
        "optax.inject_hyperparams does; leave that out"
    )


def _chained(
    config: Config, update: optax.GradientTransformation, decay: Any
) -> optax.GradientTransformation:
    """Adds clipping before an update, and decoupled weight decay by a factor, if there is one, after it."""
    steps = [update]
    if config.clip_norm is not None:
        steps.insert(0, optax.clip_by_global_norm(config.clip_norm))
    if decay is not None:
        steps.append(optax.add_decayed_weights(decay))
    return optax.chain(*steps)


def learning_rate_at(config: Config, hyperparams: HyperParams, step: Array) -> Any:
    """Returns the learning rate at a step.

    Args:
        config: holds the schedule.
        hyperparams: holds the peak learning rate, unless a function gives it; may be traced.
        step: step number, from 0, int32 `[]`; may be traced.

    Raises:
        SpecError: the schedule's length is unknown.
    """
    if isinstance(config.schedule, Function):
        rate = config.schedule(step)
        if rate is None or jnp.shape(rate):
            got = "None" if rate is None else list(jnp.shape(rate))
            raise SpecError(f"schedule {config.schedule} must return one number; got {got}")
        return jnp.asarray(rate, jnp.float32)
    # optax's schedules take no traced peak value, so they compute a factor with peak 1.
    with jax.numpy_dtype_promotion("standard"):
        factor = _factor(config.schedule)(step)
    return hyperparams.learning_rate * factor


def _factor(schedule: Schedule) -> optax.Schedule:
    if schedule.name == "constant":
        return optax.constant_schedule(1.0)
    if schedule.steps is None:
        raise SpecError(
            f"a lone step must know how long its schedule is; got {schedule!r}; give it its number of steps"
        )
    steps, options = schedule.steps, dict(schedule.options)
    if schedule.name == "cosine":
        return optax.cosine_decay_schedule(1.0, steps, options["end_factor"])
    if schedule.name == "warmup_cosine":
        warmup = min(
            round(options["warmup_fraction"] * steps), steps - 1
        )  # the decay takes one step at least
        return optax.warmup_cosine_decay_schedule(0.0, 1.0, warmup, steps, options["end_factor"])
    if schedule.name == "exponential":
        return optax.exponential_decay(1.0, steps, options["end_factor"], end_value=options["end_factor"])
    drops: dict[int, float] = {}
    for share in options["boundaries"]:  # several may fall on one step
        step = math.ceil(share * steps)
        drops[step] = drops.get(step, 1.0) * options["scale"]
    return optax.piecewise_constant_schedule(1.0, drops)


def ema_update(decay: float, average: Params, params: Params, step: Array) -> Params:
    """Updates the exponential moving average of the params, with Adam's bias correction.

    The correction (Kingma and Ba 2015) makes the first average equal to the first `params`.

    Args:
        decay: decay of the average, 0 to 1.
        average: the average before this update.
        params: the params after this update.
        step: number of updates so far, this one included, int32 `[]`.
    """
    # (1 - d) / (1 - d^t), computed with expm1 so that it is accurate for d near 1.
    weight: Scalar = (1 - decay) / -jnp.expm1(jnp.float32(step) * math.log(decay))
    updated: Params = jax.tree.map(lambda old, new: old + weight * (new - old), average, params)
    return updated
