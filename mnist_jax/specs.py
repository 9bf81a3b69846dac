"""What a network and its training are, as frozen values: no JAX, no Flax, nothing to run.

Everything here is hashable, so it can be a static argument of `jax.jit`. What may be swept by
`jax.vmap` is in `Hyper`, a pytree of scalars.
"""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, NamedTuple, get_args

from mnist_jax.errors import SpecError
from mnist_jax.optimizers import OPTIMIZERS, Optimizer, Schedule
from mnist_jax.settings import check_one_of, check_real, check_whole

IMAGE_SHAPE = (28, 28)
PIXELS = 28 * 28
CLASSES = 10
FLOAT32_MAX = 3.4e38

Activation = Literal["relu", "sigmoid", "tanh", "gelu"]
Output = Literal["softmax", "sigmoid"]
Initializer = Literal["glorot_uniform", "he_normal"]


@dataclass(frozen=True)
class MLP:
    """A multi-layer perceptron from 28x28 pixels to ten classes.

    Attributes:
        hidden: the width of each hidden layer; empty for a linear classifier.
        activations: one name per hidden layer. `gelu` is the tanh form, JAX's default.
        output: how the ten logits become the answer. `softmax` gives ten probabilities that add up
            to one. `sigmoid` gives ten independent ones, as Keras does with such a last layer.
        initializer: how kernels start (biases start at zero). Glorot and Bengio 2010, Keras's
            default, or He et al. 2015.

    Raises:
        SpecError: a width is not positive, a name is unknown, or the two tuples differ in length.
    """

    hidden: tuple[int, ...]
    activations: tuple[Activation, ...]
    output: Output = "softmax"
    initializer: Initializer = "glorot_uniform"

    def __post_init__(self) -> None:
        # Lists come from JSON and from friendly users; a spec must be hashable.
        for name in ("hidden", "activations"):
            value = getattr(self, name)
            if not isinstance(value, list | tuple):
                raise SpecError(f"{name} must be a tuple with one entry per hidden layer; got {value!r}")
            object.__setattr__(self, name, tuple(value))
        widths = tuple(check_whole("a hidden width", width) for width in self.hidden)
        object.__setattr__(self, "hidden", widths)
        if len(self.hidden) != len(self.activations):
            raise SpecError(
                "hidden and activations must have one entry per hidden layer; "
                f"got {len(self.hidden)} widths and {len(self.activations)} activations"
            )
        for activation in self.activations:
            check_one_of("activation", activation, get_args(Activation))
        check_one_of("output", self.output, get_args(Output))
        check_one_of("initializer", self.initializer, get_args(Initializer))

    @property
    def widths(self) -> tuple[int, ...]:
        """All layer sizes from input to output, such as `(784, 100, 10)`."""
        return (PIXELS, *self.hidden, CLASSES)

    @property
    def parameters(self) -> int:
        """How many numbers training adjusts: kernels and biases."""
        return sum(math.prod(shape) for shape in self.shapes.values())

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """The shape of each parameter by its path, such as `Dense_0/kernel`."""
        found: dict[str, tuple[int, ...]] = {}
        for index, (fan_in, fan_out) in enumerate(zip(self.widths, self.widths[1:], strict=False)):
            found |= {f"Dense_{index}/bias": (fan_out,), f"Dense_{index}/kernel": (fan_in, fan_out)}
        return found

    def __str__(self) -> str:
        activations = ", ".join((*self.activations, self.output))
        return f"{'-'.join(map(str, self.widths))} ({activations})"


@dataclass(frozen=True)
class Config:
    """The static side of a training run.

    Attributes:
        model: the network.
        epochs: passes over the training set.
        batch_size: examples per step. A last, smaller batch is trained on too.
        optimizer: how gradients become steps.
        schedule: how the learning rate changes.
        clip_norm: gradients of a larger global norm are scaled down to it (Pascanu et al. 2013); or None.
        ema_decay: the network that is scored and exported is the moving average of the parameters with
            this decay, such as 0.999 (Polyak and Juditsky 1992); None for the parameters themselves.

    Raises:
        SpecError: a number is out of its range.
    """

    model: MLP
    epochs: int = 10
    batch_size: int = 32
    optimizer: Optimizer = Optimizer()
    schedule: Schedule = Schedule()
    clip_norm: float | None = None
    ema_decay: float | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.model, MLP):
            raise SpecError(f"model must be an MLP; got {self.model!r}")
        object.__setattr__(self, "epochs", check_whole("epochs", self.epochs))
        object.__setattr__(self, "batch_size", check_whole("batch size", self.batch_size))
        for name, kind in (("optimizer", Optimizer), ("schedule", Schedule)):
            if not isinstance(getattr(self, name), kind):
                raise SpecError(f"{name} must be of type {kind.__name__}; got {getattr(self, name)!r}")
        if self.clip_norm is not None:
            clip_norm = check_real("clip norm", self.clip_norm, 0, FLOAT32_MAX, open_low=True)
            object.__setattr__(self, "clip_norm", clip_norm)
        if self.ema_decay is not None:
            ema_decay = check_real("EMA decay", self.ema_decay, 0, 1, open_low=True)
            object.__setattr__(self, "ema_decay", ema_decay)


class Hyper(NamedTuple):
    """What may differ between runs of one compiled program: a pytree of scalars, ready for `vmap`.

    Attributes:
        learning_rate: the optimiser's step size, times the schedule's factor.
        weight_decay: decoupled for every optimiser (Loshchilov and Hutter 2019).
        label_smoothing: the share of the target that is spread over all ten classes, 0 to 1.
    """

    learning_rate: Any = 1e-3
    weight_decay: Any = 0.0
    label_smoothing: Any = 0.0


def default_hyper(optimizer: Optimizer) -> Hyper:
    """The learning rate and the weight decay that an optimiser is used with where none are given."""
    recipe = OPTIMIZERS[optimizer.name]
    return Hyper(recipe.learning_rate, recipe.weight_decay)


def check_hyper(hyper: Hyper) -> None:
    """Checks the numbers of a single run.

    Raises:
        SpecError: one is not a finite number in its range.
    """
    if not isinstance(hyper, Hyper):
        raise SpecError(f"hyper must be a Hyper; got {hyper!r}")
    check_real("learning rate", hyper.learning_rate, 0, FLOAT32_MAX, open_low=True)
    check_real("weight decay", hyper.weight_decay, 0, FLOAT32_MAX)
    check_real("label smoothing", hyper.label_smoothing, 0, 1)


def to_json(config: Config) -> dict[str, Any]:
    """The config as plain values, ready for `json.dump`."""
    values = asdict(config)
    for name in ("optimizer", "schedule"):
        values[name]["options"] = dict(values[name]["options"])
    return values


def from_json(values: Mapping[str, Any]) -> Config:
    """The inverse of `to_json`.

    Raises:
        SpecError: a field is missing, unknown, or holds what it cannot.
    """
    settings = _fields(Config, "config", values)
    for name, kind in (("model", MLP), ("optimizer", Optimizer), ("schedule", Schedule)):
        settings[name] = kind(**_fields(kind, name, settings[name]))
    return Config(**settings)


def _fields(kind: type, name: str, values: Any) -> dict[str, Any]:
    """`values` as keyword arguments for `kind`, if it has exactly the right keys."""
    expected = [field.name for field in fields(kind)]
    if not isinstance(values, Mapping) or set(values) != set(expected):
        came = sorted(values) if isinstance(values, Mapping) else values
        raise SpecError(f"{name} must have the fields {', '.join(expected)}; got {came!r}")
    return dict(values)


def check_fraction(value: Any) -> None:
    """Checks the share of the training set to hold out.

    Raises:
        SpecError: it is not at least 0 and below 1.
    """
    check_real("validation fraction", value, 0, 1)
