"""What a network and its training are, as frozen values: no JAX, no Flax, nothing to run.

Everything here is hashable, so it can be a static argument of `jax.jit`. What may be swept by
`jax.vmap` is in `Hyper`, a pytree of scalars.
"""

import math
import operator
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, NamedTuple, get_args

from mnist_jax.errors import SpecError

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
            _one_of("activation", activation, get_args(Activation))
        _one_of("output", self.output, get_args(Output))
        _one_of("initializer", self.initializer, get_args(Initializer))

    @property
    def widths(self) -> tuple[int, ...]:
        """All layer sizes from input to output, such as `(784, 100, 10)`."""
        return (PIXELS, *self.hidden, CLASSES)

    @property
    def parameters(self) -> int:
        """How many numbers training adjusts: kernels and biases."""
        return sum(
            (fan_in + 1) * fan_out for fan_in, fan_out in zip(self.widths, self.widths[1:], strict=False)
        )

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
        b1, b2, epsilon: Adam's constants (Kingma and Ba 2015); the defaults are Keras's.

    Raises:
        SpecError: a number is out of its range.
    """

    model: MLP
    epochs: int = 10
    batch_size: int = 32
    b1: float = 0.9
    b2: float = 0.999
    epsilon: float = 1e-7

    def __post_init__(self) -> None:
        if not isinstance(self.model, MLP):
            raise SpecError(f"model must be an MLP; got {self.model!r}")
        object.__setattr__(self, "epochs", check_whole("epochs", self.epochs))
        object.__setattr__(self, "batch_size", check_whole("batch size", self.batch_size))
        for name in ("b1", "b2", "epsilon"):
            object.__setattr__(self, name, _real(name, getattr(self, name), 0, 1))


class Hyper(NamedTuple):
    """What may differ between runs of one compiled program: a pytree of scalars, ready for `vmap`.

    Attributes:
        learning_rate: Adam's step size.
        weight_decay: decoupled (Loshchilov and Hutter 2019); zero is plain Adam.
        label_smoothing: the share of the target that is spread over all ten classes, 0 to 1.
    """

    learning_rate: Any = 1e-3
    weight_decay: Any = 0.0
    label_smoothing: Any = 0.0


def check_hyper(hyper: Hyper) -> None:
    """Checks the numbers of a single run.

    Raises:
        SpecError: one is not a finite number in its range.
    """
    _real("learning rate", hyper.learning_rate, 0, FLOAT32_MAX, open_low=True)
    _real("weight decay", hyper.weight_decay, 0, FLOAT32_MAX)
    _real("label smoothing", hyper.label_smoothing, 0, 1)


def to_json(config: Config) -> dict[str, Any]:
    """The config as plain values, ready for `json.dump`."""
    return asdict(config)


def from_json(values: Mapping[str, Any]) -> Config:
    """The inverse of `to_json`.

    Raises:
        SpecError: a field is missing, unknown, or holds what it cannot.
    """
    settings = _fields(Config, "config", values)
    model = MLP(**_fields(MLP, "model", settings["model"]))
    return Config(**{**settings, "model": model})


def _fields(kind: type[MLP] | type[Config], name: str, values: Any) -> dict[str, Any]:
    """`values` as keyword arguments for `kind`, if it has exactly the right keys."""
    expected = [field.name for field in fields(kind)]
    if not isinstance(values, Mapping) or set(values) != set(expected):
        came = sorted(values) if isinstance(values, Mapping) else values
        raise SpecError(f"{name} must have the fields {', '.join(expected)}; got {came!r}")
    return dict(values)


def _one_of(what: str, value: object, known: tuple[str, ...]) -> None:
    if value not in known:
        raise SpecError(f"{what} must be one of {', '.join(known)}; got {value!r}")


def check_whole(what: str, value: Any) -> int:
    """A count as a plain `int`.

    Raises:
        SpecError: it is not a whole number of at least 1.
    """
    if isinstance(value, bool) or not hasattr(value, "__index__") or operator.index(value) < 1:
        raise SpecError(f"{what} must be a whole number of at least 1; got {value!r}")
    return operator.index(value)


def check_fraction(value: Any) -> None:
    """Checks the share of the training set to hold out.

    Raises:
        SpecError: it is not at least 0 and below 1.
    """
    _real("validation fraction", value, 0, 1)


def _real(what: str, value: Any, low: float, high: float, *, open_low: bool = False) -> float:
    """A number as a plain `float`: `low <= value < high` (`low < value` where that end is open), not NaN."""
    try:
        number = math.nan if isinstance(value, str | bytes | bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not (low < number if open_low else low <= number) or not number < high:
        bound = "a number" if high > 1 else f"a number below {high}"
        raise SpecError(f"{what} must be {bound}, {'above' if open_low else 'at least'} {low}; got {value!r}")
    return number
