"""The options that describe a network, from text to a spec and back."""

from dataclasses import replace
from typing import Annotated, Any, get_args

import typer

from mnist_jax.config.networks import CNN, MLP, Activation, KernelInit, Network, Output, Padding, Pool
from mnist_jax.errors import SpecError

Hidden = Annotated[
    str | None,
    typer.Option(
        metavar="N,N", help="Sizes of the hidden dense layers; none for none. (default: the preset's)"
    ),
]
ActivationName = Annotated[
    str | None,
    typer.Option(
        "--activation",
        metavar="A",
        help=f"{', '.join(get_args(Activation))}; for an MLP also one for each hidden layer: relu,tanh.",
    ),
]
OutputName = Annotated[
    str | None, typer.Option("--output", metavar="O", help=f"Output: {' or '.join(get_args(Output))}.")
]
InitName = Annotated[
    str | None,
    typer.Option("--init", metavar="I", help=f"Initialization: {' or '.join(get_args(KernelInit))}."),
]
Channels = Annotated[
    str | None, typer.Option(metavar="N,N", help="Output channels of each convolution, for a CNN.")
]
KernelSize = Annotated[
    int | None, typer.Option("--kernel", metavar="N", help="Height and width of a CNN's kernels.")
]
PoolName = Annotated[
    str | None, typer.Option("--pool", metavar="P", help=f"Pooling of a CNN: {' or '.join(get_args(Pool))}.")
]
PaddingNames = Annotated[
    str | None,
    typer.Option(
        "--padding", metavar="P", help=f"Padding of a CNN: {' or '.join(get_args(Padding))}; or one for each."
    ),
]


def network_from(
    base: Network,
    *,
    hidden: str | None = None,
    activation: str | None = None,
    output: str | None = None,
    init: str | None = None,
    channels: str | None = None,
    kernel: int | None = None,
    pool: str | None = None,
    padding: str | None = None,
) -> Network:
    """The network that the options describe; what they leave open is as in `base`.

    Raises:
        SpecError: an option is invalid, or fits another kind of network.
    """
    shared: dict[str, Any] = {"output": output or base.output, "kernel_init": init or base.kernel_init}
    sizes = None if hidden is None else _sizes("--hidden", hidden)
    if channels is None and not isinstance(base, CNN):
        for name, value in (("--kernel", kernel), ("--pool", pool), ("--padding", padding)):
            if value is not None:
                raise SpecError(f"{name} is for convolutions, whose --channels must be given; got {value}")
        return _mlp(base, sizes, activation, shared)
    if activation is not None and "," in activation:
        raise SpecError(f"--activation must be one name for a CNN; got {activation!r}")
    cnn = base if isinstance(base, CNN) else CNN((1,))
    widths = cnn.channels if channels is None else _sizes("--channels", channels)
    paddings: tuple[str, ...] = cnn.padding if padding is None else tuple(padding.split(","))
    if len(set(paddings)) == 1 and (channels is not None or len(paddings) == 1):
        paddings = paddings[:1] * len(widths)
    given: dict[str, Any] = {
        "kernel_size": kernel,
        "pool": pool,
        "dense_sizes": sizes,
        "padding": paddings,
        "activation": activation,
    }
    changes = {name: value for name, value in given.items() if value is not None}
    return replace(cnn, channels=widths, num_classes=base.num_classes, **changes, **shared)


def _mlp(base: MLP, sizes: tuple[int, ...] | None, activation: str | None, shared: dict[str, Any]) -> MLP:
    widths = base.hidden_sizes if sizes is None else sizes
    activations: Any = base.activations
    if activation is not None:
        activations = tuple(activation.split(",")) if "," in activation else activation
    elif len(widths) != len(activations):  # those of other layers
        if len(set(activations)) > 1:
            raise SpecError(
                f"--activation must say how {len(widths)} layers are activated; the preset has "
                f"{', '.join(activations)}"
            )
        activations = activations[0] if activations else "relu"
    return MLP(widths, activations, num_classes=base.num_classes, **shared)


def _sizes(option: str, text: str) -> tuple[int, ...]:
    try:
        return () if text == "none" else tuple(int(size) for size in text.split(","))
    except ValueError:
        raise SpecError(f"{option} must be whole numbers separated by commas; got {text!r}") from None


def network_options(network: Network) -> list[str]:
    """The options that make a network of any other: the inverse of `network_from`."""
    hidden = network.hidden_sizes if isinstance(network, MLP) else network.dense_sizes
    words = ["--hidden", ",".join(map(str, hidden)) or "none"]
    if isinstance(network, MLP):
        activations = network.activations
        if activations:
            words += ["--activation", ",".join(activations if len(set(activations)) > 1 else activations[:1])]
    else:
        words += ["--channels", ",".join(map(str, network.channels)), "--kernel", str(network.kernel_size)]
        words += ["--pool", network.pool, "--padding", ",".join(network.padding)]
        words += ["--activation", network.activation]
    return [*words, "--output", network.output, "--init", network.kernel_init]
