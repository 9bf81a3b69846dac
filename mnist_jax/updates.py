"""What an update does with a gradient: clip it, let optax's optimiser turn it into a step, decay, average.

All of it is made inside the trace, so that rates may be traced and swept.
"""

import math
from typing import Any

import jax
import jax.numpy as jnp
import optax

from mnist_jax.errors import SpecError
from mnist_jax.optimizers import OPTIMIZERS, Schedule
from mnist_jax.specs import Config, Hyper
from mnist_jax.types import Array, Params, Scalar


def optimizer(config: Config, learning_rate: Any, weight_decay: Any) -> optax.GradientTransformation:
    """The optimiser that `config` names, for one step's rates, which may be traced.

    Weight decay is decoupled for every optimiser (Loshchilov and Hutter 2019): it never enters a moment.
    """
    recipe = OPTIMIZERS[config.optimizer.name]
    options = {("eps" if name == "epsilon" else name): value for name, value in config.optimizer.options}
    if recipe.function in ("sgd", "rmsprop") and options["momentum"] == 0:
        options["momentum"] = None  # rather than one of 0 with a state to carry
    if recipe.decays:
        options["weight_decay"] = weight_decay
    steps = [getattr(optax, recipe.function)(learning_rate, **options)]
    if config.clip_norm is not None:
        steps.insert(0, optax.clip_by_global_norm(config.clip_norm))
    if not recipe.decays:
        steps.append(optax.add_decayed_weights(-learning_rate * weight_decay))
    return optax.chain(*steps)


def scheduled_rate(config: Config, hyper: Hyper, step: Array) -> Any:
    """The learning rate at a step, counted from 0.

    Raises:
        SpecError: the schedule's length is not known.
    """
    # optax's schedules take no traced peak, so they are asked for a factor.
    with jax.numpy_dtype_promotion("standard"):
        factor = _factor(config.schedule)(step)
    return hyper.learning_rate * factor


def _factor(schedule: Schedule) -> optax.Schedule:
    if schedule.name == "constant":
        return optax.constant_schedule(1.0)
    if schedule.steps is None:
        raise SpecError(
            f"a lone step must know how long its schedule is; got {schedule!r}; give it its number of steps"
        )
    steps, options = schedule.steps, dict(schedule.options)
    if schedule.name == "cosine":
        return optax.cosine_decay_schedule(1.0, steps, options["final"])
    if schedule.name == "warmup_cosine":
        warmup = min(round(options["warmup"] * steps), steps - 1)  # the decay takes one step at least
        return optax.warmup_cosine_decay_schedule(0.0, 1.0, warmup, steps, options["final"])
    if schedule.name == "exponential":
        return optax.exponential_decay(1.0, steps, options["final"], end_value=options["final"])
    drops: dict[int, float] = {}
    for share in options["at"]:  # of which several may fall on one step
        step = math.ceil(share * steps)
        drops[step] = drops.get(step, 1.0) * options["factor"]
    return optax.piecewise_constant_schedule(1.0, drops)


def averaged(decay: float, average: Params, params: Params, step: Array) -> Params:
    """The exponential moving average of the parameters after `step` updates, the last of them `params`.

    It has no bias to its start, as Adam's moments have none (Kingma and Ba 2015): the first is `params`.
    """
    # (1 - d) / (1 - d^t), written so that it is exact for d near 1.
    weight: Scalar = (1 - decay) / -jnp.expm1(jnp.float32(step) * math.log(decay))
    moved: Params = jax.tree.map(lambda old, new: old + weight * (new - old), average, params)
    return moved
