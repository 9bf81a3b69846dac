"""Provenance of a result: device, processor, instruction sets and package versions."""

import os
import platform
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import jax

CPUINFO = Path("/proc/cpuinfo")  # Linux lists the processor's name and flags there
# CPU flags of the instruction sets that affect speed or int8 results, by their common names.
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
    """Returns the versions of Python and of the packages that results depend on."""
    return {"python": platform.python_version(), **{name: version(name) for name in PACKAGES}}


def device(devices: "Sequence[jax.Device] | None" = None) -> str:
    """Describes devices, such as `gpu: NVIDIA H200` or `8 of gpu: NVIDIA H200, in 2 processes`.

    Args:
        devices: the devices; None for JAX's default one, such as `cpu: AMD EPYC 7B13, 2 cores, AVX2`.
    """
    import jax

    used = jax.devices()[:1] if devices is None else devices
    first = used[0]
    kind = f"{first.platform}: {processor() if first.platform == 'cpu' else first.device_kind}"
    processes = len({each.process_index for each in used})
    number = f"{len(used)} of " if len(used) > 1 else ""
    return f"{number}{kind}{f', in {processes} processes' if processes > 1 else ''}"


def processor() -> str:
    """Describes the processor: its name, cores and instruction sets, as far as they are known."""
    try:
        lines = CPUINFO.read_text().splitlines()
    except OSError:
        lines = []
    pairs = (
        line.partition(":") for line in reversed(lines)
    )  # reversed, so that the first processor's values win
    info = {name.strip(): value.strip() for name, _, value in pairs}
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    flags = {*info.get("flags", info.get("Features", "")).split()}
    sets = [name for name, needed in INSTRUCTION_SETS.items() if needed & flags]
    name = info.get("model name") or platform.processor() or platform.machine()
    return ", ".join([name, f"{cores} cores", " ".join(sets)]).removesuffix(", ")
