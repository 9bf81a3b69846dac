"""Kernels in fewer bits: float16, and int8 with a scale per output."""

from typing import Any

import numpy as np

from mnist_jax.errors import SpecError

FLOAT16_MAX = 65504
INT8_MAX = 127


def to_float16(kernel: np.ndarray) -> np.ndarray:
    """Converts a kernel to float16.

    Raises:
        SpecError: a weight is too large for float16.
    """
    if np.abs(kernel).max() > FLOAT16_MAX:
        largest = np.abs(kernel).max()
        raise SpecError(f"weights must be at most {FLOAT16_MAX:,} for float16; got {largest:g}")
    return kernel.astype(np.float16)


def to_int8(
    kernel: np.ndarray, min_scale: Any = 0, max_step: int = INT8_MAX
) -> tuple[np.ndarray, np.ndarray]:
    """Converts a kernel to int8, symmetrically, so that 0 stays 0.

    Args:
        kernel: float32 `[out, ...]`.
        min_scale: the smallest scale, for all outputs or per output `[out]`.
        max_step: the magnitude that the largest weight of each output gets.

    Returns:
        The int8 kernel, and the float32 scale of each output `[out]`.
    """
    largest = np.abs(kernel).reshape(len(kernel), -1).max(axis=1)
    scales = np.maximum(np.maximum(largest / np.float32(max_step), np.finfo(np.float32).tiny), min_scale)
    steps = np.rint(kernel / per_output(scales, kernel.ndim))
    return steps.clip(-max_step, max_step).astype(np.int8), scales


def per_output(scales: np.ndarray, ndim: int) -> np.ndarray:
    """Reshapes scales `[out]` to broadcast over a kernel `[out, ...]` of `ndim` axes."""
    return scales.reshape(-1, *[1] * (ndim - 1))
