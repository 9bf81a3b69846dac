"""How a network's parameters lie in an ONNX file, and back.

Kernels are transposed, so that a layer's outputs come first, and pictures have their channels first.
"""

from collections.abc import Mapping

import numpy as np

from mnist_jax.arrays import SEPARATOR
from mnist_jax.networks import CNN, Network, Spec, parts

NAMES = {"kernel": "weight", "bias": "bias"}


def to_file(spec: Spec, flat: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """`Dense_0/kernel` `[in, out]` to `Dense_0.weight` `[out, in]`, `Conv_0/kernel` to `[out, in, k, k]`."""
    return {
        _name(f"{prefix}{path}"): _outputs_first(network, path, flat[f"{prefix}{path}"])
        for prefix, network in parts(spec).items()
        for path in network.shapes
    }


def from_file(spec: Spec, weights: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The inverse of `to_file`."""
    return {
        f"{prefix}{path}": _outputs_last(network, path, weights[_name(f"{prefix}{path}")])
        for prefix, network in parts(spec).items()
        for path in network.shapes
    }


def _name(path: str) -> str:
    *layer, kind = path.split(SEPARATOR)
    return ".".join([*layer, NAMES[kind]])


def _outputs_first(network: Network, path: str, array: np.ndarray) -> np.ndarray:
    if array.ndim == 4:
        return array.transpose(3, 2, 0, 1)
    if isinstance(network, CNN) and path == "Dense_0/kernel":  # a row for each pixel and channel of a picture
        side, channels = network.convolved[-1] // 2, network.channels[-1]
        array = array.reshape(side, side, channels, -1).transpose(2, 0, 1, 3).reshape(array.shape)
    return array.T


def _outputs_last(network: Network, path: str, array: np.ndarray) -> np.ndarray:
    if array.ndim == 4:
        return array.transpose(2, 3, 1, 0)
    array = array.T
    if isinstance(network, CNN) and path == "Dense_0/kernel":
        side, channels = network.convolved[-1] // 2, network.channels[-1]
        array = array.reshape(channels, side, side, -1).transpose(1, 2, 0, 3).reshape(array.shape)
    return array
