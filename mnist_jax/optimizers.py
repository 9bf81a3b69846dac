"""Optimisers and learning-rate schedules by name, as frozen values: `updates` makes optax's of them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from mnist_jax.errors import SpecError
from mnist_jax.settings import (
    FLOAT32_TINY,
    Option,
    check_one_of,
    check_options,
    check_real,
    check_whole,
    show,
)


class Recipe(NamedTuple):
    """What a name stands for.

    Attributes:
        function: its name in optax.
        options: those that can be set, with their defaults.
        learning_rate, weight_decay: where none is given.
        decays: whether optax's function does decoupled weight decay itself; for all others it is added.
    """

    function: str
    options: dict[str, Option]
    learning_rate: float = 1e-3
    weight_decay: float = 0.0
    decays: bool = False


_MOMENTS: dict[str, Option] = {"b1": 0.9, "b2": 0.999, "epsilon": 1e-8}
# Options' defaults are optax's, but for Adam's epsilon, which is Keras's, and the momentum that makes two of
# the names; learning rates are what small batches of digits take well.
OPTIMIZERS: dict[str, Recipe] = {
    "adam": Recipe("adam", {**_MOMENTS, "epsilon": 1e-7}),
    "adamw": Recipe("adamw", _MOMENTS, weight_decay=1e-4, decays=True),
    "nadam": Recipe("nadam", _MOMENTS),
    "nadamw": Recipe("nadamw", _MOMENTS, weight_decay=1e-4, decays=True),
    "radam": Recipe("radam", _MOMENTS),
    "amsgrad": Recipe("amsgrad", _MOMENTS),
    "adamax": Recipe("adamax", _MOMENTS),
    "adabelief": Recipe("adabelief", {**_MOMENTS, "epsilon": 1e-16}),
    "adan": Recipe("adan", {"b1": 0.98, "b2": 0.92, "b3": 0.99, "epsilon": 1e-8}, decays=True),
    "yogi": Recipe("yogi", {**_MOMENTS, "epsilon": 1e-3}, 1e-2),
    "novograd": Recipe("novograd", {"b1": 0.9, "b2": 0.25, "epsilon": 1e-6}, 1e-2),
    "lamb": Recipe("lamb", {**_MOMENTS, "epsilon": 1e-6}, 1e-2, decays=True),
    "lars": Recipe("lars", {"momentum": 0.9, "nesterov": False, "trust_coefficient": 0.001}, 1.0),
    "lion": Recipe("lion", {"b1": 0.9, "b2": 0.99}, 1e-4, 1e-3, decays=True),
    "rmsprop": Recipe("rmsprop", {"decay": 0.9, "epsilon": 1e-8, "centered": False, "momentum": 0.0}),
    "adagrad": Recipe("adagrad", {"initial_accumulator_value": 0.1, "epsilon": 1e-7}, 1e-2),
    "adadelta": Recipe("adadelta", {"rho": 0.9, "epsilon": 1e-6}, 1.0),
    "sgd": Recipe("sgd", {"momentum": 0.0, "nesterov": False}, 1e-2),
    "momentum": Recipe("sgd", {"momentum": 0.9, "nesterov": False}, 1e-2),
    "nesterov": Recipe("sgd", {"momentum": 0.9, "nesterov": True}, 1e-2),
    "sign_sgd": Recipe("sign_sgd", {}, 1e-4),
}


@dataclass(frozen=True)
class Optimizer:
    """An optimiser of optax: `Optimizer("sgd", {"momentum": 0.9})`.

    Attributes:
        name: one of `OPTIMIZERS`.
        options: a mapping of those that shall not be at their defaults; kept with all of them, as pairs.

    Raises:
        SpecError: an unknown name or option, or a number outside 0..1.
    """

    name: str = "adam"
    options: Any = ()

    def __post_init__(self) -> None:
        check_one_of("optimizer", self.name, tuple(OPTIMIZERS))
        options = check_options(self.name, OPTIMIZERS[self.name].options, self.options)
        object.__setattr__(self, "options", options)
        if "epsilon" in dict(options):  # a smaller one is 0 in float32, and divides by it
            check_real(f"{self.name}'s epsilon", dict(options)["epsilon"], FLOAT32_TINY, 1, open_low=True)

    def __str__(self) -> str:
        return show(self.name, OPTIMIZERS[self.name].options, self.options)


# Each is a factor on the learning rate, from the first step to the last. `final` is the factor at the end,
# `warmup` the share of the steps in which it rises from 0 to 1, `at` the shares after which it drops.
SCHEDULES: dict[str, Mapping[str, Option]] = {
    "constant": {},
    "cosine": {"final": 0.0},
    "warmup_cosine": {"warmup": 0.1, "final": 0.0},
    "exponential": {"final": 0.01},
    "piecewise": {"at": (0.5, 0.75), "factor": 0.1},
}


@dataclass(frozen=True)
class Schedule:
    """How the learning rate changes: `Schedule("warmup_cosine", {"warmup": 0.05})`.

    Attributes:
        name: one of `SCHEDULES`.
        options: a mapping of those that shall not be at their defaults; kept with all of them, as pairs.
        steps: how many steps it is spread over, after which it keeps its last value; None for a whole run,
            which `train_epoch` and `fit` know from the number of examples and `Config.epochs`.

    Raises:
        SpecError: an unknown name or option, or a number outside 0..1.
    """

    name: str = "constant"
    options: Any = ()
    steps: int | None = None

    def __post_init__(self) -> None:
        check_one_of("schedule", self.name, tuple(SCHEDULES))
        options = check_options(self.name, SCHEDULES[self.name], self.options)
        object.__setattr__(self, "options", options)
        if self.name == "exponential":
            check_real("exponential's final", dict(options)["final"], 0, 1, open_low=True)
        if self.name == "piecewise" and list(at := dict(options)["at"]) != sorted(set(at)):  # type: ignore[arg-type]
            raise SpecError(f"piecewise's at must be increasing; got {at!r}")
        if self.steps is not None:
            object.__setattr__(self, "steps", check_whole("a schedule's steps", self.steps))

    @property
    def follows_run(self) -> bool:
        """Whether a longer run would have had another rate from its first step on."""
        return self.name != "constant" and self.steps is None

    def __str__(self) -> str:
        return show(self.name, SCHEDULES[self.name], self.options)
