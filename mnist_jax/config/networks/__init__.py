"""Network specifications: frozen dataclasses without JAX or Flax.

Specs are hashable, so that they can be static arguments of `jax.jit`.
"""

from mnist_jax.config.networks.choices import (
    DEFAULT_CLASSES,
    IMAGE_SHAPE,
    LABELS,
    MAX_CLASSES,
    MAX_ONNX_PARAMS,
    PIXEL_SCALE,
    PIXELS,
    Activation,
    Dtype,
    KernelInit,
    Output,
    Padding,
    Pool,
    are_labels,
)
from mnist_jax.config.networks.cnn import CNN, MAX_KERNEL_SIZE
from mnist_jax.config.networks.ensemble import (
    Ensemble,
    Network,
    Spec,
    Trainable,
    member_name,
    members_by_prefix,
)
from mnist_jax.config.networks.flax_model import FlaxModel
from mnist_jax.config.networks.mlp import MLP

__all__ = (
    "CNN",
    "DEFAULT_CLASSES",
    "IMAGE_SHAPE",
    "LABELS",
    "MAX_CLASSES",
    "MAX_KERNEL_SIZE",
    "MAX_ONNX_PARAMS",
    "MLP",
    "PIXELS",
    "PIXEL_SCALE",
    "Activation",
    "Dtype",
    "Ensemble",
    "FlaxModel",
    "KernelInit",
    "Network",
    "Output",
    "Padding",
    "Pool",
    "Spec",
    "Trainable",
    "are_labels",
    "member_name",
    "members_by_prefix",
)
