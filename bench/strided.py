"""A CNN without pooling, and the MLP that computes the same.

A convolution is a dense layer with many equal and many absent weights, so that a CNN of convolutions and ReLU
is an MLP. Max pooling is not such a layer; a stride takes its place. As an MLP it can be trained on, free of
that structure: d'Ascoli et al. 2019, "Finding the Needle in the Haystack with Convolutions".
"""

import math
from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from mnist_jax.config.networks import MLP
from mnist_jax.types import Array, Params


def windows(maps: Array, stride: int) -> Array:
    """All windows of 3x3 cells, one cell apart, where a cell is `stride` x `stride` pixels.

    Args:
        maps: `[batch, side, side, channels]`, with a side that `stride` divides.
        stride: pixels from a window to the next.

    Returns:
        `[batch, side/stride - 2, side/stride - 2, 9 * stride**2 * channels]`.
    """
    batch, side, _, channels = maps.shape
    cells = side // stride
    maps = maps.reshape(batch, cells, stride, cells, stride, channels).swapaxes(2, 3)
    maps = maps.reshape(batch, cells, cells, stride**2 * channels)
    shifted = [maps[:, i : cells - 2 + i, j : cells - 2 + j] for i in range(3) for j in range(3)]
    return jnp.concatenate(shifted, axis=-1)


class StridedCNN(nn.Module):
    """Convolutions, then dense layers, each but the last with ReLU.

    The first and the last convolution have 6x6 pixels and stride 2, those between 3x3 pixels and stride 1.

    Attributes:
        channels: of each convolution; one to five.
        hidden: units of each hidden dense layer.
    """

    channels: tuple[int, ...] = (24, 96)
    hidden: tuple[int, ...] = (128,)

    @nn.compact
    def __call__(self, images: Array) -> Array:
        """`[batch, 28, 28]`, float32 0..1, to logits `[batch, 10]`."""
        maps = images[..., None]
        for channels, stride in zip(self.channels, self.strides, strict=True):
            maps = nn.relu(nn.Dense(channels)(windows(maps, stride)))
        values = maps.reshape(len(maps), -1)
        for units in self.hidden:
            values = nn.relu(nn.Dense(units)(values))
        return nn.Dense(10)(values)

    @property
    def strides(self) -> tuple[int, ...]:
        """Of each convolution, in pixels."""
        last = len(self.channels) - 1
        return tuple(2 if number in (0, last) else 1 for number in range(last + 1))

    def describe(self) -> str:
        """The layers, as `CNN` names its own."""
        channels = "-".join(map(str, self.channels))
        dense = "-".join(map(str, (*self.as_mlp().hidden_sizes[len(self.channels) - 1 :], 10)))
        strides = "-".join(map(str, self.strides))
        return f"convolutions {channels}, dense {dense} (strides {strides}, relu, softmax)"

    def as_mlp(self) -> MLP:
        """The MLP that computes the same with `unrolled` parameters."""
        sides = [28]
        for stride in self.strides:
            sides.append(sides[-1] // stride - 2)
        maps = zip(sides[1:], self.channels, strict=True)
        return MLP((*(side**2 * channels for side, channels in maps), *self.hidden), "relu")


def unrolled(module: StridedCNN, variables: Any) -> Params:
    """The parameters of the MLP that computes what the CNN does.

    Row i of a layer's kernel is what the convolution, without its bias, makes of an image that is 1 at pixel
    i and 0 elsewhere.
    """
    params, shape = dict(variables["params"]), (28, 28, 1)
    for number, (channels, stride) in enumerate(zip(module.channels, module.strides, strict=True)):
        layer = params[f"Dense_{number}"]
        pixels = jnp.eye(math.prod(shape)).reshape(-1, *shape)
        maps = windows(pixels, stride) @ layer["kernel"]
        shape = maps.shape[1:]
        params[f"Dense_{number}"] = {
            "kernel": maps.reshape(len(maps), -1),
            "bias": jnp.tile(layer["bias"], math.prod(shape) // channels),
        }
    return params
