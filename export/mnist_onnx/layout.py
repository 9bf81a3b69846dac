"""Conversion of parameters between the layouts of JAX and of the ONNX file.

In the file, the output axis of a kernel comes first, and images are `[batch, channels, height, width]`.
"""

from collections.abc import Mapping

import numpy as np

from mnist_jax._utils.nested_dicts import SEPARATOR
from mnist_jax.config.networks import CNN, Network, Spec, members_by_prefix

NAMES = {"kernel": "weight", "bias": "bias"}


def to_file(spec: Spec, flat: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Converts flat parameters from JAX's layout to the file's.

    `Dense_0/kernel` `[in, out]` becomes `Dense_0.weight` `[out, in]`; `Conv_0/kernel` `[k, k, in, out]`
    becomes `Conv_0.weight` `[out, in, k, k]`.
    """
    return {
        _name(f"{prefix}{path}"): _outputs_first(network, path, flat[f"{prefix}{path}"])
        for prefix, network in members_by_prefix(spec).items()
        for path in network.param_shapes
    }


def from_file(spec: Spec, weights: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Converts parameters from the file's layout to JAX's: the inverse of `to_file`."""
    return {
        f"{prefix}{path}": _outputs_last(network, path, weights[_name(f"{prefix}{path}")])
        for prefix, network in members_by_prefix(spec).items()
        for path in network.param_shapes
    }


def _name(path: str) -> str:
    *layer, kind = path.split(SEPARATOR)
    return ".".join([*layer, NAMES[kind]])


def _outputs_first(network: Network, path: str, array: np.ndarray) -> np.ndarray:
    if array.ndim == 4:
        return array.transpose(3, 2, 0, 1)
    if isinstance(network, CNN) and path == "Dense_0/kernel":  # one row per pixel and channel
        side, channels = network.conv_output_sizes[-1] // 2, network.channels[-1]
        array = array.reshape(side, side, channels, -1).transpose(2, 0, 1, 3).reshape(array.shape)
    return array.T


def _outputs_last(network: Network, path: str, array: np.ndarray) -> np.ndarray:
    if array.ndim == 4:
        return array.transpose(2, 3, 1, 0)
    array = array.T
    if isinstance(network, CNN) and path == "Dense_0/kernel":
        side, channels = network.conv_output_sizes[-1] // 2, network.channels[-1]
        array = array.reshape(channels, side, side, -1).transpose(1, 2, 0, 3).reshape(array.shape)
    return array
