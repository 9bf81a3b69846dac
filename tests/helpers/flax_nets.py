"""Flax modules that an environment with jax2onnx can import."""

import flax.linen as nn
import jax


class ConvNet(nn.Module):
    """Convolutions with batch normalization and dropout, as jax2onnx takes them."""

    features: tuple[int, ...] = (4, 8)

    @nn.compact
    def __call__(self, images: jax.Array, train: bool) -> jax.Array:
        x = images[..., None]
        for features in self.features:
            x = nn.BatchNorm(use_running_average=not train)(nn.Conv(features, (3, 3))(x))
            x = nn.avg_pool(nn.relu(x), window_shape=(2, 2), strides=(2, 2))
        x = nn.Dropout(0.1, deterministic=not train)(x.reshape((x.shape[0], -1)))
        return nn.Dense(10)(x)


def deep() -> ConvNet:
    return ConvNet((4, 8, 16))


class Positional(nn.Module):
    """Which jax2onnx does not take: options of a Flax function by position."""

    @nn.compact
    def __call__(self, images: jax.Array) -> jax.Array:
        x = nn.avg_pool(images[..., None], (2, 2), (2, 2))
        return nn.Dense(10)(x.reshape((x.shape[0], -1)))
