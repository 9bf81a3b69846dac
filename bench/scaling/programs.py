"""What the compiled program of a step does on each of several devices, which the CPU simulates.

    python -m bench.scaling.programs

It answers each `[preset, batch_size, devices]` that it reads.
"""

import json
import math
import os
import re
import sys
from collections.abc import Iterator
from typing import Any, NamedTuple

from bench.output import status
from bench.workers import Process

COLLECTIVES = ("all-reduce", "all-gather", "reduce-scatter", "all-to-all", "collective-permute")
BYTES = {"pred": 1, "s8": 1, "u8": 1, "bf16": 2, "f16": 2, "s32": 4, "u32": 4, "f32": 4}


def describe(jobs: list[tuple[str, int, int]]) -> Iterator[dict[str, Any]]:
    """Compiles the step of each `(preset, batch_size, devices)` and describes its program for one device.

    In a process of its own, since the number of simulated devices is fixed when JAX starts.
    """
    most = max(devices for *_, devices in jobs)
    own = without_simulation(os.environ.get("XLA_FLAGS", ""))
    variables = {"XLA_FLAGS": f"{own} --xla_force_host_platform_device_count={most}", "JAX_PLATFORMS": "cpu"}
    process = Process("the compiler", [sys.executable, "-m", "bench.scaling.programs"], variables)
    try:
        for number, job in enumerate(jobs, 1):
            status(f"compiling for simulated devices: {number} of {len(jobs)}")
            yield process.request(json.dumps(job))
    finally:
        process.kill()


def without_simulation(flags: str) -> str:
    """XLA's flags without that for simulated devices.

    Examples:
        >>> without_simulation("--xla_a=1 --xla_force_host_platform_device_count=2")
        '--xla_a=1'
    """
    return " ".join(flag for flag in flags.split() if "host_platform_device_count" not in flag)


def _step(name: str, batch_size: int, devices: int) -> dict[str, Any]:
    from dataclasses import replace

    import jax
    import jax.numpy as jnp
    import numpy as np

    from mnist_jax import Examples, HyperParams, preset
    from mnist_jax.parallel.mesh import as_mesh, replicated
    from mnist_jax.training.programs import epoch_program
    from mnist_jax.training.start import abstract_state

    mesh = as_mesh(jax.devices()[:devices])
    assert mesh is not None
    config = replace(preset(name).config, batch_size=batch_size)
    train = Examples(np.zeros((batch_size, 28, 28), np.uint8), np.zeros(batch_size, np.int32))
    rates = HyperParams(*(jax.ShapeDtypeStruct((), jnp.float32) for _ in HyperParams()))
    arguments = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=replicated(mesh)),
        (rates, abstract_state(config), train),
    )
    program = epoch_program(config, mesh).lower(*arguments).compile()
    cost, memory = program.cost_analysis(), program.memory_analysis()
    sent = list(collectives(program.as_text()))
    return {
        "preset": name,
        "batch_size": batch_size,
        "devices": devices,
        "flops": cost["flops"],
        "bytes_accessed": cost["bytes accessed"],
        "memory_bytes": memory.argument_size_in_bytes + memory.temp_size_in_bytes,
        "collectives": [each._asdict() for each in sent],
    }


class Collective(NamedTuple):
    """An operation in which devices send each other arrays.

    Attributes:
        kind: such as `all-reduce`.
        arrays: how many it sends.
        size: their bytes.
    """

    kind: str
    arrays: int
    size: int


def collectives(program: str) -> Iterator[Collective]:
    """Yields the collective operations in the text of a compiled program.

    Examples:
        >>> list(collectives("%x = (f32[2,3]{1,0}, f32[]) all-reduce(%a, %b), channel_id=1"))
        [Collective(kind='all-reduce', arrays=2, size=28)]
    """
    kinds = "|".join(COLLECTIVES)
    for shapes, kind in re.findall(rf"= (.*?) ({kinds})(?:-start)?\(", program):
        arrays = re.findall(r"(\w+)\[([\d,]*)\]", shapes)
        sizes = [
            BYTES[dtype] * math.prod(map(int, filter(None, dimensions.split(","))))
            for dtype, dimensions in arrays
        ]
        yield Collective(kind, len(sizes), sum(sizes))


if __name__ == "__main__":
    for line in sys.stdin:
        print(json.dumps(_step(*json.loads(line))), flush=True)  # noqa: T201
