"""Optimizers and learning-rate schedules by name: frozen dataclasses without JAX or optax.

`mnist_jax.training.optimizer` turns them into optax transformations.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from mnist_jax._utils.frozen import set_fields
from mnist_jax.config.functions import Function, as_function
from mnist_jax.config.validation import (
    FLOAT32_TINY,
    Option,
    check_choice,
    check_float,
    check_options,
    check_positive_int,
    parse_pairs,
    show,
)
from mnist_jax.errors import SpecError


class Recipe(NamedTuple):
    """The optax function and the defaults behind an optimizer's name.

    Attributes:
        function: name of the function in optax.
        options: the options that can be set, with their defaults.
        learning_rate: default learning rate.
        weight_decay: default weight decay.
        decays: whether the optax function applies decoupled weight decay itself; for the others it is added.
    """

    function: str
    options: dict[str, Option]
    learning_rate: float = 1e-3
    weight_decay: float = 0.0
    decays: bool = False


_MOMENTS: dict[str, Option] = {"b1": 0.9, "b2": 0.999, "eps": 1e-8}
# Option defaults are those of optax, except for Adam's eps (from Keras) and the momentum of `momentum` and
# `nesterov`. Learning rates suit small batches of digits.
OPTIMIZERS: dict[str, Recipe] = {
    "adam": Recipe("adam", {**_MOMENTS, "eps": 1e-7}),
    "adamw": Recipe("adamw", _MOMENTS, weight_decay=1e-4, decays=True),
    "nadam": Recipe("nadam", _MOMENTS),
    "nadamw": Recipe("nadamw", _MOMENTS, weight_decay=1e-4, decays=True),
    "radam": Recipe("radam", _MOMENTS),
    "amsgrad": Recipe("amsgrad", _MOMENTS),
    "adamax": Recipe("adamax", _MOMENTS),
    "adabelief": Recipe("adabelief", {**_MOMENTS, "eps": 1e-16}),
    "adan": Recipe("adan", {"b1": 0.98, "b2": 0.92, "b3": 0.99, "eps": 1e-8}, decays=True),
    "yogi": Recipe("yogi", {**_MOMENTS, "eps": 1e-3}, 1e-2),
    "novograd": Recipe("novograd", {"b1": 0.9, "b2": 0.25, "eps": 1e-6}, 1e-2),
    "lamb": Recipe("lamb", {**_MOMENTS, "eps": 1e-6}, 1e-2, decays=True),
    "lars": Recipe("lars", {"momentum": 0.9, "nesterov": False, "trust_coefficient": 0.001}, 1.0),
    "lion": Recipe("lion", {"b1": 0.9, "b2": 0.99}, 1e-4, 1e-3, decays=True),
    "rmsprop": Recipe("rmsprop", {"decay": 0.9, "eps": 1e-8, "centered": False, "momentum": 0.0}),
    "adagrad": Recipe("adagrad", {"initial_accumulator_value": 0.1, "eps": 1e-7}, 1e-2),
    "adadelta": Recipe("adadelta", {"rho": 0.9, "eps": 1e-6}, 1.0),
    "sgd": Recipe("sgd", {"momentum": 0.0, "nesterov": False}, 1e-2),
    "momentum": Recipe("sgd", {"momentum": 0.9, "nesterov": False}, 1e-2),
    "nesterov": Recipe("sgd", {"momentum": 0.9, "nesterov": True}, 1e-2),
    "sign_sgd": Recipe("sign_sgd", {}, 1e-4),
}


@dataclass(frozen=True)
class Optimizer:
    """An optax optimizer with its options.

    Attributes:
        name: a key of `OPTIMIZERS`.
        options: a mapping of the options that differ from their defaults; stored as `(name, value)` pairs of
            all options.

    Raises:
        SpecError: if the name or an option is unknown, or an option's value is outside [0, 1).

    Examples:
        >>> from mnist_jax import Optimizer
        >>> Optimizer("sgd", {"momentum": 0.9})
        Optimizer(name='sgd', options=(('momentum', 0.9), ('nesterov', False)))
    """

    name: str = "adam"
    options: Any = ()

    def __post_init__(self) -> None:
        check_choice("optimizer", self.name, tuple(OPTIMIZERS))
        options = check_options(self.name, OPTIMIZERS[self.name].options, self.options)
        set_fields(self, options=options)
        if "eps" in dict(options):  # a smaller value is 0 in float32 and leads to a division by zero
            check_float(f"{self.name}'s eps", dict(options)["eps"], FLOAT32_TINY, 1, open_low=True)

    def __str__(self) -> str:
        return show(self.name, OPTIMIZERS[self.name].options, self.options)


# A schedule is a factor on the learning rate. `end_factor` is its value at the last step. `warmup_fraction`
# is the fraction of steps in which it rises from 0 to 1. `piecewise` multiplies it by `scale` at each of the
# `boundaries`, which are fractions of the number of steps.
SCHEDULES: dict[str, Mapping[str, Option]] = {
    "constant": {},
    "cosine": {"end_factor": 0.0},
    "warmup_cosine": {"warmup_fraction": 0.1, "end_factor": 0.0},
    "exponential": {"end_factor": 0.01},
    "piecewise": {"boundaries": (0.5, 0.75), "scale": 0.1},
}


@dataclass(frozen=True)
class Schedule:
    """A learning-rate schedule with its options.

    Attributes:
        name: a key of `SCHEDULES`.
        options: a mapping of the options that differ from their defaults; stored as `(name, value)` pairs of
            all options.
        steps: the length of the schedule in steps, after which the rate stays constant; None for the whole
            run, whose length `train_epoch` and `fit` derive from the number of examples and `Config.epochs`.

    Raises:
        SpecError: if the name or an option is unknown, or an option's value is outside [0, 1).

    Examples:
        >>> from mnist_jax import Schedule
        >>> print(Schedule("warmup_cosine", {"warmup_fraction": 0.05}))
        warmup_cosine:warmup_fraction=0.05
    """

    name: str = "constant"
    options: Any = ()
    steps: int | None = None

    def __post_init__(self) -> None:
        check_choice("schedule", self.name, tuple(SCHEDULES))
        options = check_options(self.name, SCHEDULES[self.name], self.options)
        set_fields(self, options=options)
        if self.name == "exponential":
            check_float("exponential's end_factor", dict(options)["end_factor"], 0, 1, open_low=True)
        if self.name == "piecewise" and list(at := dict(options)["boundaries"]) != sorted(set(at)):  # type: ignore[arg-type]
            raise SpecError(f"piecewise's boundaries must be increasing; got {at!r}")
        if self.steps is not None:
            set_fields(self, steps=check_positive_int("a schedule's steps", self.steps))

    @property
    def follows_run(self) -> bool:
        """Whether the learning rate at a step depends on the length of the run."""
        return self.name != "constant" and self.steps is None

    def __str__(self) -> str:
        return show(self.name, SCHEDULES[self.name], self.options)


def as_optimizer(value: Any) -> Optimizer | Function:
    """Return an optimizer; takes text as the command line does, or a function of the learning rate.

    Raises:
        SpecError: if it is none of these, or the text is invalid.
    """
    if isinstance(value, Optimizer):
        return value
    if isinstance(value, str):
        return parse(Optimizer, value)
    if isinstance(value, tuple):  # as optax.GradientTransformation is, whose learning rate is fixed
        raise SpecError(
            "optimizer must be a function of the learning rate, such as optax.adam or "
            f"lambda rate: optax.adam(rate, b1=0.8); got {type(value).__name__}"
        )
    return as_function("optimizer must be a name, an Optimizer or an optax function; it", value)


def as_schedule(value: Any) -> Schedule | Function:
    """Return a schedule; takes text as the command line does, or a function from step to learning rate.

    Raises:
        SpecError: if it is none of these, or the text is invalid.
    """
    if isinstance(value, Schedule):
        return value
    if isinstance(value, str):
        return parse(Schedule, value)
    return as_function("schedule must be a name, a Schedule or a function of the step; it", value)


def parse[Named: (Optimizer, Schedule)](kind: type[Named], text: str) -> Named:
    """Parse an optimizer, such as `sgd:momentum=0.9,nesterov=true`, or a schedule.

    Args:
        kind: the class to create.
        text: the name, and options after a colon.

    Raises:
        SpecError: the text or a value is invalid.
    """
    name, colon, rest = text.partition(":")
    form = f"{kind.__name__.lower()} must be a name, or NAME:OPTION=VALUE,OPTION=VALUE"
    return kind(name, parse_pairs(rest, form, text) if colon else {})
