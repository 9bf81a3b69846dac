"""What a figure was measured on: device, processor and versions."""

import os
import platform
from importlib.metadata import version
from pathlib import Path

PACKAGES = ("mnist-jax", "jax", "jaxlib", "flax", "optax", "numpy", "onnx", "onnxruntime")


def versions() -> dict[str, str]:
    """The version of Python and of each package that a result depends on."""
    return {"python": platform.python_version(), **{name: version(name) for name in PACKAGES}}


def device() -> str:
    """JAX's default device in words, such as `cpu: AMD EPYC 7B13, 2 cores` or `gpu: NVIDIA H200`."""
    import jax

    first = jax.devices()[0]
    if first.platform != "cpu":
        return f"{first.platform}: {first.device_kind}"
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"cpu: {_processor()}, {cores} cores"


def _processor() -> str:
    """The processor's name; Linux tells it in a file alone."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
