"""The spec of a multi-layer perceptron."""

from dataclasses import dataclass
from typing import get_args

from mnist_jax._utils.frozen import set_fields
from mnist_jax.config.networks.choices import (
    DEFAULT_CLASSES,
    PIXELS,
    Activation,
    KernelInit,
    Output,
    check_num_classes,
    count_params,
    dense_shapes,
)
from mnist_jax.config.validation import as_tuple, check_choice, check_positive_int
from mnist_jax.errors import SpecError


@dataclass(frozen=True)
class MLP:
    """A multi-layer perceptron from 28x28 pixels to classes.

    Attributes:
        hidden_sizes: size of each hidden layer; empty for a linear classifier.
        activations: activation of each hidden layer, or one for all. `gelu` is the tanh approximation,
            JAX's default; `gelu_exact` uses the error function.
        output: `softmax` for probabilities that sum to one, or `sigmoid` for independent ones.
        kernel_init: initialization of the kernels: Glorot and Bengio 2010 (Keras's default) or He et al.
            2015. Biases start at zero.
        num_classes: number of classes, 2 to 1,000.

    Raises:
        SpecError: if a size is not positive, a name is unknown, the two tuples differ in length, or the
            network has more than 2**31 - 1 parameters.

    Examples:
        >>> from mnist_jax import MLP
        >>> print(MLP((128, 64)))
        784-128-64-10 (relu, relu, softmax)
        >>> print(MLP((128, 64), ("relu", "tanh"), num_classes=26))
        784-128-64-26 (relu, tanh, softmax)
    """

    hidden_sizes: tuple[int, ...]
    activations: tuple[Activation, ...] | Activation = "relu"
    output: Output = "softmax"
    kernel_init: KernelInit = "glorot_uniform"
    num_classes: int = DEFAULT_CLASSES

    def __post_init__(self) -> None:
        sizes = [check_positive_int("a hidden layer size", size) for size in as_tuple(self, "hidden_sizes")]
        if isinstance(self.activations, str):
            set_fields(self, activations=(self.activations,) * len(sizes))
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
        set_fields(self, num_classes=check_num_classes(self.num_classes))
        count_params(self.param_shapes)

    @property
    def layer_sizes(self) -> tuple[int, ...]:
        """All layer sizes from input to output, such as `(784, 100, 10)`."""
        return (PIXELS, *self.hidden_sizes, self.num_classes)

    @property
    def num_params(self) -> int:
        """Number of trainable parameters: the elements of all kernels and biases."""
        return count_params(self.param_shapes)

    @property
    def param_shapes(self) -> dict[str, tuple[int, ...]]:
        """The shape of each parameter by its path, such as `Dense_0/kernel`."""
        return dense_shapes(self.layer_sizes)

    def __str__(self) -> str:
        activations = ", ".join((*self.activations, self.output))
        return f"{'-'.join(map(str, self.layer_sizes))} ({activations})"
