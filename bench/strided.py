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


def windows(maps: Array) -> Array:
    """All windows of 6x6 pixels, two pixels apart: 2x2 pixels are a cell, and 3x3 cells a window.

    Args:
        maps: `[batch, side, side, channels]`, with an even side.

    Returns:
        `[batch, side/2 - 2, side/2 - 2, 36 * channels]`.
    """
    batch, side, _, channels = maps.shape
    half = side // 2
    squares = maps.reshape(batch, half, 2, half, 2, channels).swapaxes(2, 3)
    cells = squares.reshape(batch, half, half, 4 * channels)
    shifted = [cells[:, i : half - 2 + i, j : half - 2 + j] for i in range(3) for j in range(3)]
    return jnp.concatenate(shifted, axis=-1)


class StridedCNN(nn.Module):
    """Convolutions of 6x6 pixels with stride 2, then dense layers, each but the last with ReLU.

    Attributes:
        channels: of each convolution; two at most.
        hidden: units of each hidden dense layer.
    """

    channels: tuple[int, ...] = (24, 96)
    hidden: tuple[int, ...] = (128,)

    @nn.compact
    def __call__(self, images: Array) -> Array:
        """`[batch, 28, 28]`, float32 0..1, to logits `[batch, 10]`."""
        maps = images[..., None]
        for channels in self.channels:
            maps = nn.relu(nn.Dense(channels)(windows(maps)))
        values = maps.reshape(len(maps), -1)
        for units in self.hidden:
            values = nn.relu(nn.Dense(units)(values))
        return nn.Dense(10)(values)

    def describe(self) -> str:
        """The layers, as `CNN` names its own."""
        channels = "-".join(map(str, self.channels))
        dense = "-".join(map(str, (*self.as_mlp().hidden_sizes[len(self.channels) - 1 :], 10)))
        return f"convolutions {channels}, dense {dense} (6x6, stride 2, relu, softmax)"

    def as_mlp(self) -> MLP:
        """The MLP that computes the same with `unrolled` parameters."""
        sides = [28]
        for _ in self.channels:
            sides.append(sides[-1] // 2 - 2)
        maps = zip(sides[1:], self.channels, strict=True)
        return MLP((*(side**2 * channels for side, channels in maps), *self.hidden), "relu")


def unrolled(module: StridedCNN, variables: Any) -> Params:
    """The parameters of the MLP that computes what the CNN does.

    Row i of a layer's kernel is what the convolution, without its bias, makes of an image that is 1 at pixel
    i and 0 elsewhere.
    """
    params, shape = dict(variables["params"]), (28, 28, 1)
    for number, channels in enumerate(module.channels):
        layer = params[f"Dense_{number}"]
        pixels = jnp.eye(math.prod(shape)).reshape(-1, *shape)
        maps = windows(pixels) @ layer["kernel"]
        shape = maps.shape[1:]
        params[f"Dense_{number}"] = {
            "kernel": maps.reshape(len(maps), -1),
            "bias": jnp.tile(layer["bias"], math.prod(shape) // channels),
        }
    return params
