"""One of several processes that train together, told what to do line by line.

    python -m bench.scaling.worker JOBS ADDRESS PROCESSES ID DATASET [DATA_DIR]

It compiles all jobs (see `processes.Job`), says of each what it sends, and then does those whose numbers it
reads.
"""

import json
import os
import sys
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from bench.scaling.processes import Job
from bench.scaling.programs import Collective, collectives


def main(jobs: str, address: str, processes: str, process_id: str, dataset: str, *data_dir: str) -> None:
    """Does what stdin says."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # Gloo writes to stdout
    import jax

    if int(processes) > 1:
        jax.distributed.initialize(address, int(processes), int(process_id), coordinator_bind_address=address)
    from mnist_jax import load

    train = load(dataset, *data_dir, validation_fraction=0.0).train
    programs = []
    for job in json.loads(jobs):
        programs.append(_program(Job(*job), train))
        print(json.dumps(programs[-1][1]), file=answers, flush=True)
    for line in sys.stdin:
        run, _ = programs[int(line)]
        jax.block_until_ready(run())
        print("{}", file=answers, flush=True)


def _program(job: Job, train: Any) -> tuple[Callable[[], Any], list[Collective]]:
    """A function that does the job, and what the processes send each other in each of its steps."""
    import jax

    from mnist_jax.parallel.mesh import as_mesh

    if job.kind == "reduce":
        return _reductions(job)
    mesh = as_mesh(jax.devices() if job.kind == "shared" else jax.local_devices())
    return _epoch(job, train[: job.size * job.steps], mesh)


def _epoch(job: Job, train: Any, mesh: Any) -> tuple[Callable[[], Any], list[Collective]]:
    import jax
    import jax.numpy as jnp

    from mnist_jax import init_state, preset
    from mnist_jax.parallel.mesh import replicate
    from mnist_jax.training.programs import epoch_program

    recipe = preset(job.preset)
    config = replace(recipe.config, batch_size=job.size)
    rates = jax.tree.map(jnp.float32, recipe.hyperparams)
    rates, state, train = replicate((rates, init_state(config, jax.random.key(0)), train), mesh)
    compiled = epoch_program(config, mesh).lower(rates, state, train).compile()

    def run() -> Any:
        nonlocal state
        state, metrics = compiled(rates, state, train)
        return state.params, metrics

    return run, list(collectives(str(compiled.as_text())))


def _reductions(job: Job) -> tuple[Callable[[], Any], list[Collective]]:
    import jax
    import jax.numpy as jnp
    from jax.sharding import PartitionSpec

    from mnist_jax.parallel.mesh import AXIS, as_mesh, replicate

    mesh = as_mesh(jax.devices())
    assert mesh is not None

    def reduced(array: jax.Array) -> Any:
        return jax.lax.fori_loop(0, job.steps, lambda _, each: jax.lax.pmean(each, AXIS), array)

    whole = PartitionSpec()
    program = jax.shard_map(reduced, mesh=mesh, in_specs=whole, out_specs=whole, check_vma=False)
    array = replicate(jnp.ones(job.size, jnp.float32), mesh)
    compiled = jax.jit(program).lower(array).compile()
    return lambda: compiled(array), list(collectives(str(compiled.as_text())))


if __name__ == "__main__":
    main(*sys.argv[1:])
