"""What a network is, as a frozen value: no JAX, no Flax, nothing to run.

Everything here is hashable, so it can be a static argument of `jax.jit`.
"""

import math
from collections import Counter
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal, get_args

from mnist_jax.errors import SpecError
from mnist_jax.settings import INT32_MAX, check_one_of, check_whole

IMAGE_SHAPE = (28, 28)
PIXELS = 28 * 28
CLASSES = 10
LARGEST_KERNEL = 2 * 28 - 1  # with its middle in one corner of a picture, it reaches the other

Activation = Literal["relu", "sigmoid", "tanh", "gelu"]
Output = Literal["softmax", "sigmoid"]
Initializer = Literal["glorot_uniform", "he_normal"]
Pool = Literal["average", "max"]
Padding = Literal["same", "valid"]
Dtype = Literal["float32", "bfloat16"]


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
        SpecError: a width is not positive, a name is unknown, the two tuples differ in length, or there would
            be more than 2**31 - 1 parameters.
    """

    hidden: tuple[int, ...]
    activations: tuple[Activation, ...]
    output: Output = "softmax"
    initializer: Initializer = "glorot_uniform"

    def __post_init__(self) -> None:
        widths = tuple(check_whole("a hidden width", width) for width in _several(self, "hidden"))
        object.__setattr__(self, "hidden", widths)
        object.__setattr__(self, "activations", _several(self, "activations"))
        if len(self.hidden) != len(self.activations):
            raise SpecError(
                "hidden and activations must have one entry per hidden layer; "
                f"got {len(self.hidden)} widths and {len(self.activations)} activations"
            )
        for activation in self.activations:
            check_one_of("activation", activation, get_args(Activation))
        check_one_of("output", self.output, get_args(Output))
        check_one_of("initializer", self.initializer, get_args(Initializer))
        _check_size(self)

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
        return _dense_shapes(self.widths)

    def __str__(self) -> str:
        activations = ", ".join((*self.activations, self.output))
        return f"{'-'.join(map(str, self.widths))} ({activations})"


@dataclass(frozen=True)
class CNN:
    """A convolutional network: convolutions, each with activation and 2x2 pooling, then dense layers.

    Attributes:
        channels: how many features each convolution gives.
        kernel: the side of every convolution's square kernel, at most 55 pixels.
        pool: what is kept of each 2x2 square, its `average` or `max`; a last odd row or column is left out.
        dense: the width of each hidden layer after the convolutions.
        padding: for each convolution, `same` (zeros around, so that the picture keeps its size) or `valid`
            (none); where none are given, all are `same`.
        activation: after every convolution and every hidden layer.
        output: as in `MLP`.
        initializer: as in `MLP`.

    Raises:
        SpecError: a number is not positive, a name is unknown, `padding` has not one for each convolution,
            nothing would be left of the picture, or there would be more than 2**31 - 1 parameters.
    """

    channels: tuple[int, ...]
    kernel: int = 3
    pool: Pool = "max"
    dense: tuple[int, ...] = ()
    padding: tuple[Padding, ...] = ()
    activation: Activation = "relu"
    output: Output = "softmax"
    initializer: Initializer = "glorot_uniform"

    def __post_init__(self) -> None:
        for name, what in (("channels", "a number of channels"), ("dense", "a dense width")):
            object.__setattr__(self, name, tuple(check_whole(what, n) for n in _several(self, name)))
        if not self.channels:
            raise SpecError("channels must have an entry for each convolution; got none; use an MLP without")
        object.__setattr__(self, "kernel", check_whole("kernel", self.kernel))
        if self.kernel > LARGEST_KERNEL:
            raise SpecError(
                f"kernel must be at most {LARGEST_KERNEL}, which reaches all of a picture; got {self.kernel}"
            )
        object.__setattr__(self, "padding", _several(self, "padding") or ("same",) * len(self.channels))
        if len(self.padding) != len(self.channels):
            raise SpecError(
                "padding must have one entry for each convolution, or none at all; "
                f"got {len(self.padding)} for {len(self.channels)} convolutions"
            )
        for padding in self.padding:
            check_one_of("padding", padding, get_args(Padding))
        check_one_of("pool", self.pool, get_args(Pool))
        check_one_of("activation", self.activation, get_args(Activation))
        check_one_of("output", self.output, get_args(Output))
        check_one_of("initializer", self.initializer, get_args(Initializer))
        if min(self.convolved) < 2:
            raise SpecError(
                f"each convolution must leave at least 2x2 pixels for the pooling; got sides of "
                f"{', '.join(map(str, self.convolved))}; use fewer, a smaller kernel, or padding same"
            )
        _check_size(self)

    @property
    def convolved(self) -> tuple[int, ...]:
        """The side of the square picture that each convolution gives, in pixels; pooling halves it."""
        found, side = [], IMAGE_SHAPE[0]
        for padding in self.padding:
            found.append(side - (self.kernel - 1) * (padding == "valid"))
            side = found[-1] // 2
        return tuple(found)

    @property
    def activations(self) -> tuple[Activation, ...]:
        """One name per hidden dense layer."""
        return (self.activation,) * len(self.dense)

    @property
    def widths(self) -> tuple[int, ...]:
        """The sizes of the dense layers, from the last picture to the output."""
        return ((self.convolved[-1] // 2) ** 2 * self.channels[-1], *self.dense, CLASSES)

    @property
    def parameters(self) -> int:
        """How many numbers training adjusts: kernels and biases."""
        return sum(math.prod(shape) for shape in self.shapes.values())

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """The shape of each parameter by its path, such as `Conv_0/kernel`, `[height, width, in, out]`."""
        found: dict[str, tuple[int, ...]] = {}
        for index, (into, out) in enumerate(pairwise((1, *self.channels))):
            kernel = (self.kernel, self.kernel, into, out)
            found |= {f"Conv_{index}/bias": (out,), f"Conv_{index}/kernel": kernel}
        return found | _dense_shapes(self.widths)

    def __str__(self) -> str:
        convolutions, dense = ("-".join(map(str, sizes)) for sizes in (self.channels, self.widths))
        details = f"{self.kernel}x{self.kernel}, {self.activation}, {self.pool} pooling, {self.output}"
        return f"convolutions {convolutions}, dense {dense} ({details})"


Network = MLP | CNN


@dataclass(frozen=True)
class Ensemble:
    """Networks that answer together: the logits are the mean of theirs.

    As probabilities that is the geometric mean of theirs, made to add up to one. Members are trained one by
    one, such as from several seeds.

    Attributes:
        members: two networks or more, of one `output`.

    Raises:
        SpecError: they are fewer, no networks, or of several outputs; or there would be more than 2**31 - 1
            parameters.
    """

    members: tuple[Network, ...]

    def __post_init__(self) -> None:
        members = _several(self, "members")
        object.__setattr__(self, "members", members)
        if len(members) < 2 or not all(isinstance(member, Network) for member in members):
            raise SpecError(f"members must be two or more, each an MLP or a CNN; got {members!r}")
        if len(outputs := sorted({member.output for member in members})) > 1:
            raise SpecError(f"members must have the same output; got {' and '.join(outputs)}")
        _check_size(self)

    @property
    def output(self) -> Output:
        """As in `MLP`."""
        return self.members[0].output

    @property
    def parameters(self) -> int:
        """How many numbers all members have."""
        return sum(member.parameters for member in self.members)

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """The shape of each parameter by its path, such as `member_0/Dense_0/kernel`."""
        return {
            f"{prefix}{path}": shape
            for prefix, member in parts(self).items()
            for path, shape in member.shapes.items()
        }

    def __str__(self) -> str:
        return " + ".join(
            f"{count} x {member}" if count > 1 else str(member)
            for member, count in Counter(self.members).items()
        )


Spec = MLP | CNN | Ensemble


def parts(spec: Spec) -> dict[str, Network]:
    """The networks that a spec is made of, by what the paths of their parameters begin with."""
    if isinstance(spec, Ensemble):
        return {f"{member_name(index)}/": member for index, member in enumerate(spec.members)}
    return {"": spec}


def member_name(index: int) -> str:
    """What an ensemble's parameters and its file call a member."""
    return f"member_{index}"


def _several(spec: Any, name: str) -> tuple[Any, ...]:
    """A field as a tuple: lists come from JSON and from friendly users, and a spec must be hashable."""
    value = getattr(spec, name)
    if not isinstance(value, list | tuple):
        raise SpecError(f"{name} must be a tuple with one entry per layer; got {value!r}")
    return tuple(value)


def _check_size(spec: Spec) -> None:
    if spec.parameters > INT32_MAX:
        raise SpecError(f"a network must have at most {INT32_MAX:,} parameters; got {spec.parameters:,}")


def _dense_shapes(widths: tuple[int, ...]) -> dict[str, tuple[int, ...]]:
    found: dict[str, tuple[int, ...]] = {}
    for index, (fan_in, fan_out) in enumerate(pairwise(widths)):
        found |= {f"Dense_{index}/bias": (fan_out,), f"Dense_{index}/kernel": (fan_in, fan_out)}
    return found
