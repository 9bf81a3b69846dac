"""Network specifications: frozen dataclasses without JAX or Flax.

Specs are hashable, so that they can be static arguments of `jax.jit`.
"""

import math
from collections import Counter
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal, get_args

from mnist_jax._utils.frozen import set_fields
from mnist_jax.config.validation import INT32_MAX, as_tuple, check_choice, check_positive_int
from mnist_jax.errors import SpecError

IMAGE_SHAPE = (28, 28)
PIXELS = 28 * 28
CLASSES = 10
# Factor from uint8 to 0..1, in float32. A product, as in the ONNX file: a quotient differs in the last bit.
PIXEL_SCALE = 1 / 255
MAX_KERNEL_SIZE = 2 * 28 - 1  # centered on one corner of an image, it reaches the opposite corner

Activation = Literal["relu", "sigmoid", "tanh", "gelu"]
Output = Literal["softmax", "sigmoid"]
KernelInit = Literal["glorot_uniform", "he_normal"]
Pool = Literal["average", "max"]
Padding = Literal["same", "valid"]
Dtype = Literal["float32", "bfloat16"]


@dataclass(frozen=True)
class MLP:
    """A multi-layer perceptron from 28x28 pixels to ten classes.

    Attributes:
        hidden_sizes: size of each hidden layer; empty for a linear classifier.
        activations: activation of each hidden layer. `gelu` is the tanh approximation, JAX's default.
        output: `softmax` for probabilities that sum to one, or `sigmoid` for ten independent ones.
        kernel_init: initialization of the kernels: Glorot and Bengio 2010 (Keras's default) or He et al.
            2015. Biases start at zero.

    Raises:
        SpecError: if a size is not positive, a name is unknown, the two tuples differ in length, or the
            network has more than 2**31 - 1 parameters.

    Examples:
        >>> from mnist_jax import MLP
        >>> print(MLP((128, 64), ("relu", "tanh")))
        784-128-64-10 (relu, tanh, softmax)
    """

    hidden_sizes: tuple[int, ...]
    activations: tuple[Activation, ...]
    output: Output = "softmax"
    kernel_init: KernelInit = "glorot_uniform"

    def __post_init__(self) -> None:
        sizes = [check_positive_int("a hidden layer size", size) for size in as_tuple(self, "hidden_sizes")]
        set_fields(self, hidden_sizes=tuple(sizes), activations=as_tuple(self, "activations"))
        if len(self.hidden_sizes) != len(self.activations):
            raise SpecError(
                "hidden_sizes and activations must have one entry per hidden layer; "
                f"got {len(self.hidden_sizes)} sizes and {len(self.activations)} activations"
            )
        for activation in self.activations:
            check_choice("activation", activation, get_args(Activation))
        check_choice("output", self.output, get_args(Output))
        check_choice("kernel_init", self.kernel_init, get_args(KernelInit))
        _check_size(self)

    @property
    def layer_sizes(self) -> tuple[int, ...]:
        """All layer sizes from input to output, such as `(784, 100, 10)`."""
        return (PIXELS, *self.hidden_sizes, CLASSES)

    @property
    def num_params(self) -> int:
        """Number of trainable parameters: the elements of all kernels and biases."""
        return sum(math.prod(shape) for shape in self.param_shapes.values())

    @property
    def param_shapes(self) -> dict[str, tuple[int, ...]]:
        """The shape of each parameter by its path, such as `Dense_0/kernel`."""
        return _dense_shapes(self.layer_sizes)

    def __str__(self) -> str:
        activations = ", ".join((*self.activations, self.output))
        return f"{'-'.join(map(str, self.layer_sizes))} ({activations})"


@dataclass(frozen=True)
class CNN:
    """A convolutional network: convolutions, each with activation and 2x2 pooling, then dense layers.

    Attributes:
        channels: number of output channels of each convolution.
        kernel_size: height and width of all kernels in pixels, at most 55.
        pool: 2x2 pooling, `average` or `max`; an odd last row or column is dropped.
        dense_sizes: size of each hidden dense layer after the convolutions.
        padding: of each convolution: `same` (zero padding that keeps the size) or `valid` (no padding);
            empty for `same` everywhere.
        activation: activation of all convolutions and hidden dense layers.
        output: as in `MLP`.
        kernel_init: as in `MLP`.

    Raises:
        SpecError: if a size is not positive, a name is unknown, `padding` has the wrong length, an image gets
            too small for the pooling, or the network has more than 2**31 - 1 parameters.

    Examples:
        >>> from mnist_jax import CNN
        >>> CNN((8, 24), kernel_size=5).num_params
        16802
    """

    channels: tuple[int, ...]
    kernel_size: int = 3
    pool: Pool = "max"
    dense_sizes: tuple[int, ...] = ()
    padding: tuple[Padding, ...] = ()
    activation: Activation = "relu"
    output: Output = "softmax"
    kernel_init: KernelInit = "glorot_uniform"

    def __post_init__(self) -> None:
        for name, what in (("channels", "a number of channels"), ("dense_sizes", "a dense layer size")):
            set_fields(self, **{name: tuple(check_positive_int(what, n) for n in as_tuple(self, name))})
        if not self.channels:
            raise SpecError("channels must have an entry for each convolution; got none; use an MLP instead")
        set_fields(self, kernel_size=check_positive_int("kernel_size", self.kernel_size))
        if self.kernel_size > MAX_KERNEL_SIZE:
            raise SpecError(
                f"kernel_size must be at most {MAX_KERNEL_SIZE}, which covers the whole image; "
                f"got {self.kernel_size}"
            )
        set_fields(self, padding=as_tuple(self, "padding") or ("same",) * len(self.channels))
        if len(self.padding) != len(self.channels):
            raise SpecError(
                "padding must have one entry for each convolution, or none at all; "
                f"got {len(self.padding)} for {len(self.channels)} convolutions"
            )
        for padding in self.padding:
            check_choice("padding", padding, get_args(Padding))
        check_choice("pool", self.pool, get_args(Pool))
        check_choice("activation", self.activation, get_args(Activation))
        check_choice("output", self.output, get_args(Output))
        check_choice("kernel_init", self.kernel_init, get_args(KernelInit))
        if min(sizes := self.conv_output_sizes) < 2:
            raise SpecError(
                "each convolution must leave at least 2x2 pixels for the pooling; got sides of "
                f"{', '.join(map(str, sizes))}; use fewer convolutions, a smaller kernel or padding 'same'"
            )
        _check_size(self)

    @property
    def conv_output_sizes(self) -> tuple[int, ...]:
        """Height and width in pixels of each convolution's output, before pooling halves it."""
        sizes, side = [], IMAGE_SHAPE[0]
        for padding in self.padding:
            sizes.append(side - (self.kernel_size - 1) * (padding == "valid"))
            side = sizes[-1] // 2
        return tuple(sizes)

    @property
    def activations(self) -> tuple[Activation, ...]:
        """Activation of each hidden dense layer."""
        return (self.activation,) * len(self.dense_sizes)

    @property
    def layer_sizes(self) -> tuple[int, ...]:
        """Sizes of the dense layers, from the flattened output of the last pooling to the logits."""
        return ((self.conv_output_sizes[-1] // 2) ** 2 * self.channels[-1], *self.dense_sizes, CLASSES)

    @property
    def num_params(self) -> int:
        """Number of trainable parameters: the elements of all kernels and biases."""
        return sum(math.prod(shape) for shape in self.param_shapes.values())

    @property
    def param_shapes(self) -> dict[str, tuple[int, ...]]:
        """The shape of each parameter by its path, such as `Conv_0/kernel`, `[height, width, in, out]`."""
        shapes: dict[str, tuple[int, ...]] = {}
        for index, (fan_in, fan_out) in enumerate(pairwise((1, *self.channels))):
            kernel = (self.kernel_size, self.kernel_size, fan_in, fan_out)
            shapes |= {f"Conv_{index}/bias": (fan_out,), f"Conv_{index}/kernel": kernel}
        return shapes | _dense_shapes(self.layer_sizes)

    def __str__(self) -> str:
        convolutions, dense = ("-".join(map(str, sizes)) for sizes in (self.channels, self.layer_sizes))
        details = (
            f"{self.kernel_size}x{self.kernel_size}, {self.activation}, {self.pool} pooling, {self.output}"
        )
        return f"convolutions {convolutions}, dense {dense} ({details})"


Network = MLP | CNN


@dataclass(frozen=True)
class Ensemble:
    """An ensemble of networks, whose logits are the mean of its members' logits.

    With softmax, its probabilities are the normalized geometric mean of its members' probabilities. Members
    are trained separately, for example from different seeds.

    Attributes:
        members: two or more networks with the same `output`.

    Raises:
        SpecError: if there are fewer than two members, one is no MLP or CNN, their outputs differ, or they
            have more than 2**31 - 1 parameters together.

    Examples:
        >>> from mnist_jax import MLP, Ensemble
        >>> print(Ensemble((MLP((100,), ("relu",)),) * 3))
        3 x 784-100-10 (relu, softmax)
    """

    members: tuple[Network, ...]

    def __post_init__(self) -> None:
        members = as_tuple(self, "members")
        set_fields(self, members=members)
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
    def num_params(self) -> int:
        """Number of parameters of all members together."""
        return sum(member.num_params for member in self.members)

    @property
    def param_shapes(self) -> dict[str, tuple[int, ...]]:
        """The shape of each parameter by its path, such as `member_0/Dense_0/kernel`."""
        return {
            f"{prefix}{path}": shape
            for prefix, member in members_by_prefix(self).items()
            for path, shape in member.param_shapes.items()
        }

    def __str__(self) -> str:
        return " + ".join(
            f"{count} x {member}" if count > 1 else str(member)
            for member, count in Counter(self.members).items()
        )


Spec = MLP | CNN | Ensemble


def members_by_prefix(spec: Spec) -> dict[str, Network]:
    """The networks of a spec, keyed by the prefix of their parameters' paths (`""` for a single network)."""
    if isinstance(spec, Ensemble):
        return {f"{member_name(index)}/": member for index, member in enumerate(spec.members)}
    return {"": spec}


def member_name(index: int) -> str:
    """The name of an ensemble's member in its parameters and in its ONNX file."""
    return f"member_{index}"


def _check_size(spec: Spec) -> None:
    if spec.num_params > INT32_MAX:
        raise SpecError(f"a network must have at most {INT32_MAX:,} parameters; got {spec.num_params:,}")


def _dense_shapes(layer_sizes: tuple[int, ...]) -> dict[str, tuple[int, ...]]:
    shapes: dict[str, tuple[int, ...]] = {}
    for index, (fan_in, fan_out) in enumerate(pairwise(layer_sizes)):
        shapes |= {f"Dense_{index}/bias": (fan_out,), f"Dense_{index}/kernel": (fan_in, fan_out)}
    return shapes
