"""The spec of a convolutional network."""

from dataclasses import dataclass
from itertools import pairwise
from typing import get_args

from mnist_jax._utils.frozen import set_fields
from mnist_jax.config.networks.choices import (
    DEFAULT_CLASSES,
    IMAGE_SHAPE,
    Activation,
    KernelInit,
    Output,
    Padding,
    Pool,
    check_num_classes,
    count_params,
    dense_shapes,
)
from mnist_jax.config.validation import as_tuple, check_choice, check_positive_int
from mnist_jax.errors import SpecError

MAX_KERNEL_SIZE = 2 * 28 - 1  # centered on one corner of an image, it reaches the opposite corner


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
        num_classes: as in `MLP`.

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
    num_classes: int = DEFAULT_CLASSES

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
        set_fields(self, num_classes=check_num_classes(self.num_classes))
        count_params(self.param_shapes)

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
        return (
            (self.conv_output_sizes[-1] // 2) ** 2 * self.channels[-1],
            *self.dense_sizes,
            self.num_classes,
        )

    @property
    def num_params(self) -> int:
        """Number of trainable parameters: the elements of all kernels and biases."""
        return count_params(self.param_shapes)

    @property
    def param_shapes(self) -> dict[str, tuple[int, ...]]:
        """The shape of each parameter by its path, such as `Conv_0/kernel`, `[height, width, in, out]`."""
        shapes: dict[str, tuple[int, ...]] = {}
        for index, (fan_in, fan_out) in enumerate(pairwise((1, *self.channels))):
            kernel = (self.kernel_size, self.kernel_size, fan_in, fan_out)
            shapes |= {f"Conv_{index}/bias": (fan_out,), f"Conv_{index}/kernel": kernel}
        return shapes | dense_shapes(self.layer_sizes)

    def __str__(self) -> str:
        convolutions, dense = ("-".join(map(str, sizes)) for sizes in (self.channels, self.layer_sizes))
        details = (
            f"{self.kernel_size}x{self.kernel_size}, {self.activation}, {self.pool} pooling, {self.output}"
        )
        return f"convolutions {convolutions}, dense {dense} ({details})"
