"""What a figure was measured on: device, processor, its instruction sets, and versions."""

import os
import platform
from importlib.metadata import version
from pathlib import Path

CPUINFO = Path("/proc/cpuinfo")  # where Linux tells a processor's name and flags
# What a processor calls an instruction set that changes speed or 8-bit answers, and what people do.
INSTRUCTION_SETS = {
    "AVX2": {"avx2"},
    "AVX-512": {"avx512f"},
    "VNNI": {"avx512_vnni", "avx_vnni"},
    "AMX": {"amx_tile"},
    "dot product": {"asimddp"},
    "I8MM": {"i8mm"},
}
PACKAGES = ("mnist-jax", "jax", "jaxlib", "flax", "optax", "numpy", "onnx", "onnxruntime")


def versions() -> dict[str, str]:
    """The version of Python and of each package that a result depends on."""
    return {"python": platform.python_version(), **{name: version(name) for name in PACKAGES}}


def device() -> str:
    """JAX's default device in words, such as `gpu: NVIDIA H200` or `cpu: AMD EPYC 7B13, 2 cores, AVX2`."""
    import jax

    first = jax.devices()[0]
    if first.platform != "cpu":
        return f"{first.platform}: {first.device_kind}"
    return f"cpu: {processor()}"


def processor() -> str:
    """The processor's name, its cores and its instruction sets, as far as the system tells them."""
    try:
        lines = CPUINFO.read_text().splitlines()
    except OSError:
        lines = []
    pairs = (line.partition(":") for line in reversed(lines))  # the first processor's last, which then stay
    told = {name.strip(): value.strip() for name, _, value in pairs}
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    flags = {*told.get("flags", told.get("Features", "")).split()}
    sets = [name for name, needed in INSTRUCTION_SETS.items() if needed & flags]
    name = told.get("model name") or platform.processor() or platform.machine()
    return ", ".join([name, f"{cores} cores", " ".join(sets)]).removesuffix(", ")
