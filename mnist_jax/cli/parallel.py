"""Options for several devices and processes, and how a command joins the others."""

import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from mnist_jax._utils.process_setup import start_jax
from mnist_jax.cli import console
from mnist_jax.config.validation import check_positive_int
from mnist_jax.errors import BackendError, RunError, SpecError
from mnist_jax.parallel.selection import check_devices
from mnist_jax.runs import directory, pipeline

LOCAL = ("127.0.0.1", "localhost", "::1")
SHUTDOWN_S = 3600  # how long a process waits at its end for the first, which exports and checks

Devices = Annotated[
    str | None,
    typer.Option(
        metavar="all|N",
        callback=check_devices,
        help="Share the work out over all devices, or N of them. (default: one)",
        show_default=False,
    ),
]
Distributed = Annotated[
    bool,
    typer.Option(
        "--distributed", help="Join the processes that Slurm, Open MPI, Kubernetes or Cloud TPU started."
    ),
]
Coordinator = Annotated[
    str | None,
    typer.Option(
        metavar="HOST:PORT",
        help="Join processes by hand: where process 0 listens; the same for all.",
        show_default=False,
    ),
]
Processes = Annotated[
    int | None,
    typer.Option(metavar="N", help="How many processes there are, with --coordinator.", show_default=False),
]
ProcessId = Annotated[
    int | None,
    typer.Option(metavar="I", help="Number of this process, from 0, with --coordinator.", show_default=False),
]
HeartbeatTimeout = Annotated[
    int, typer.Option(metavar="S", help="Seconds after which a silent process counts as dead.")
]
StartupTimeout = Annotated[int, typer.Option(metavar="S", help="Seconds to wait for all processes to start.")]


@dataclass(frozen=True)
class Group:
    """The processes that run a command together: this one alone, or several.

    Attributes:
        num_processes: how many they are.
        process_id: the number of this one; the first, 0, prints and writes.
    """

    num_processes: int = 1
    process_id: int = 0

    @property
    def is_main(self) -> bool:
        """Whether this process prints and writes."""
        return self.process_id == 0

    def together[Value](self, work: Callable[[], Value]) -> Value:
        """As `processes.together`."""
        if self.num_processes == 1:
            return work()
        from mnist_jax.parallel import processes

        return processes.together(work)

    def check_on_main(self, check: Callable[[], Any]) -> None:
        """Calls a function in the first process; where it fails, all do."""
        self.together(check if self.is_main else lambda: None)

    def read_run(self, folder: Path, name: str = directory.CONFIG) -> directory.Run:
        """Reads a run in the first process, for all."""
        if self.num_processes == 1:
            return directory.read(folder, name)
        from mnist_jax.parallel import processes

        values = processes.on_main(lambda: directory.to_json(directory.read(folder, name)))
        return directory.from_json(values, folder / name)

    def check_same(self, run: directory.Run) -> None:
        """Checks that all processes have the run of the first: its settings, and its data.

        Raises:
            RunError: this one has another.
        """
        if self.num_processes == 1:
            return
        from mnist_jax.parallel import processes

        own = directory.to_json(run)
        of_main = processes.on_main(lambda: own)

        def compare() -> None:
            if odd := [name for name in sorted({*own, *of_main}) if own.get(name) != of_main.get(name)]:
                raise RunError(
                    f"all processes must have the same run; process {self.process_id} has another {odd[0]}"
                )

        processes.together(compare)

    def share_start(self, run: directory.Run, start: pipeline.StartState | None) -> pipeline.StartState:
        """Shares the first process's start of training; the others give None, and get no history."""
        if self.num_processes == 1 and start is not None:
            return start
        import jax

        from mnist_jax.parallel import processes
        from mnist_jax.training.start import abstract_state

        fresh = processes.on_main(lambda: start is None or start.state is None)
        if fresh:
            return start or pipeline.StartState()
        if start is not None and start.state is not None:
            return start._replace(state=processes.state_of_main(start.state))
        shapes = abstract_state(run.config, pipeline.callbacks_of(run))
        shapes = shapes._replace(key=jax.eval_shape(lambda: jax.random.key(0, impl=run.prng_impl)))
        zeros = jax.tree.map(lambda leaf: jax.numpy.zeros(leaf.shape, leaf.dtype), shapes)
        return pipeline.StartState(processes.state_of_main(zeros))


def join(
    distributed: bool,
    coordinator: str | None,
    processes: int | None,
    process_id: int | None,
    heartbeat_timeout: int,
    startup_timeout: int,
) -> Group:
    """Joins the other processes of a command, if it has any, and starts JAX with them.

    All but the first are silent from here on, except for errors.

    Raises:
        SpecError: the options do not fit together.
        BackendError: the other processes cannot be found or reached.
    """
    check_positive_int("heartbeat-timeout", heartbeat_timeout)
    check_positive_int("startup-timeout", startup_timeout)
    by_hand = (coordinator, processes, process_id)
    if distributed and by_hand != (None, None, None):
        raise SpecError(
            "--distributed finds the processes; leave out --coordinator, --processes and --process-id"
        )
    if not distributed and by_hand == (None, None, None):
        return Group()
    address = _local_address() if distributed else _checked(*by_hand)
    _keep_stdout_for_results()
    import jax

    try:
        jax.distributed.initialize(
            address,
            processes,
            process_id,
            coordinator_bind_address=address,
            heartbeat_timeout_seconds=heartbeat_timeout,
            initialization_timeout=startup_timeout,
            shutdown_timeout_seconds=SHUTDOWN_S,
        )
    except Exception as error:  # of any type, from several libraries
        if distributed and isinstance(error, ValueError):  # JAX has found nobody to ask
            raise BackendError(
                "--distributed must run in a job of Slurm, Open MPI, Kubernetes or Cloud TPU; got none; "
                "start processes by hand with --coordinator, --processes and --process-id"
            ) from None
        reason = " ".join(str(error).split())[:300]
        where = "a job of Slurm, Open MPI, Kubernetes or Cloud TPU" if distributed else address
        raise BackendError(f"the processes must be able to find each other by {where}; {reason}") from None
    start_jax()
    group = Group(jax.process_count(), jax.process_index())
    console.quiet = not group.is_main
    return group


def leave(code: int) -> None:
    """Ends this process at once if it has joined others; the others then end, too, rather than wait for it.

    The first one waits a moment, because those that failed as well cannot end in peace without it.
    """
    jax = sys.modules.get("jax")
    if jax is None or not jax.distributed.is_initialized():
        return
    if not console.quiet:
        time.sleep(1)
    sys.stdout.flush()
    os._exit(code)


def _keep_stdout_for_results() -> None:
    """Sends what JAX's libraries write to stdout, such as Gloo's connections, to stderr."""
    sys.stdout.flush()
    results = os.dup(1)
    os.dup2(2, 1)
    sys.stdout = open(results, "w", encoding=sys.stdout.encoding, errors="replace")  # noqa: SIM115, PTH123


def _checked(coordinator: str | None, processes: int | None, process_id: int | None) -> str:
    if coordinator is None or processes is None or process_id is None:
        raise SpecError("--coordinator, --processes and --process-id belong together; one of them is missing")
    host, _, port = coordinator.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 2**16:
        raise SpecError(f"--coordinator must be HOST:PORT; got {coordinator!r}")
    check_positive_int("processes", processes)
    if not 0 <= process_id < processes:
        raise SpecError(f"--process-id must be 0 to {processes - 1}; got {process_id}")
    return coordinator


def _local_address() -> str | None:
    """Where process 0 of a job on this machine alone listens; None for JAX to find out.

    JAX would have it listen on all of the machine's addresses.
    """
    if os.environ.get("OMPI_COMM_WORLD_SIZE", "") == os.environ.get("OMPI_COMM_WORLD_LOCAL_SIZE", "-"):
        job = os.environ.get("PMIX_NAMESPACE", "")
    elif os.environ.get("SLURM_STEP_NUM_NODES") == "1":
        job = os.environ.get("SLURM_JOB_ID", "")
    else:
        return None
    number = int("".join(letter for letter in job if letter.isdecimal()) or "0")
    return f"127.0.0.1:{61440 + number % 4096}"  # above the ports that systems give out by themselves
