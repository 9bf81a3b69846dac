"""Mutants of ONNX models."""

from collections.abc import Callable

import jax
import numpy as np
import onnx
from onnx import numpy_helper

from mnist_onnx.session import metadata_of_model


def as_numpy(params: object) -> dict[str, dict[str, np.ndarray]]:
    arrays: dict[str, dict[str, np.ndarray]] = jax.tree.map(np.asarray, params)
    return arrays


def edit(model: onnx.ModelProto, name: str, change: Callable[[np.ndarray], np.ndarray]) -> onnx.ModelProto:
    mutant = onnx.ModelProto()
    mutant.CopyFrom(model)
    (tensor,) = [t for t in mutant.graph.initializer if t.name == name]
    tensor.CopyFrom(
        numpy_helper.from_array(np.ascontiguousarray(change(numpy_helper.to_array(tensor).copy())), name)
    )
    return mutant


def without_weights_of_black_pixels(images: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    black = ~images.any(axis=0).reshape(-1)
    assert black.any()
    return lambda kernel: np.where(black, np.float32(0), kernel)


def with_metadata(model: onnx.ModelProto, **changes: str) -> onnx.ModelProto:
    mutant = onnx.ModelProto()
    mutant.CopyFrom(model)
    onnx.helper.set_model_props(mutant, metadata_of_model(model) | changes)
    return mutant
