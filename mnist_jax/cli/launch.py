"""`mnist-jax launch`."""

import os
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from threading import Thread
from typing import Annotated

import typer

from mnist_jax.cli import console
from mnist_jax.config.presets import DEFAULT_PRESET
from mnist_jax.config.validation import check_choice, check_positive_int
from mnist_jax.errors import SpecError
from mnist_jax.runs.locking import default_run_dir

COMMANDS = ("train", "sweep")
OURS = ("--coordinator", "--process-id", "--distributed")
SPOKEN = (1, 2, 130)  # exit codes of a process that has said why it ends
POLL_S = 0.05
HEARTBEAT_S = 100  # as JAX's default
GRACE_S = 10  # for the others after one has ended with a message of its own: they hear of it and end, too


def launch(
    arguments: Annotated[
        list[str],
        typer.Argument(metavar="train|sweep ...", help="The command and its options.", show_default=False),
    ],
    processes: Annotated[int, typer.Option(metavar="N", help="Number of processes.")] = 2,
) -> None:
    """Run `train` or `sweep` in several processes on this machine, where nothing else starts them.

    Shows the output of the first. When one fails, all are ended. For several machines use Slurm or mpirun,
    with --distributed.

    Example: mnist-jax launch --processes 2 train --preset mlp-100 --epochs 5
    """
    check_positive_int("processes", processes)
    check_choice("command", arguments[0], COMMANDS)
    if given := [word for word in arguments if word.partition("=")[0] in OURS]:
        raise SpecError(f"{given[0]} is given by launch itself; leave it out")
    command = _with_out(arguments)
    port = _free_port()
    children = [
        _start([*command, "--coordinator", f"127.0.0.1:{port}"], processes, index)
        for index in range(processes)
    ]
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda number, _: _send(children, number))
    views = [Thread(target=_show, args=(child, index)) for index, child in enumerate(children)]
    for view in views:
        view.start()
    heartbeat_s = _value(arguments, "--heartbeat-timeout") or str(HEARTBEAT_S)
    failed = _wait(children, float(heartbeat_s) if heartbeat_s.isdecimal() else HEARTBEAT_S)
    for child in children:
        child.wait()
    for view in views:
        view.join()
    if failed is not None:
        index, how = failed
        _report(how, index, children, command)


def _with_out(arguments: list[str]) -> list[str]:
    """The arguments with a run directory of launch's choice, so that it can say how to go on."""
    if any(word.partition("=")[0] in ("--out", "--resume") for word in arguments):
        return arguments
    return [*arguments, "--out", str(default_run_dir(_value(arguments, "--preset") or DEFAULT_PRESET))]


def _value(arguments: Sequence[str], option: str) -> str | None:
    """The value of an option, written as `--option value` or `--option=value`."""
    for word, following in zip(arguments, [*arguments[1:], ""], strict=True):
        name, separator, value = word.partition("=")
        if name == option:
            return value if separator else following
    return None


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def _start(command: list[str], processes: int, index: int) -> subprocess.Popen[str]:
    own = ["--processes", str(processes), "--process-id", str(index)]
    return subprocess.Popen(
        [sys.executable, "-m", "mnist_jax.cli", *command, *own],
        stdout=None if index == 0 else subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        start_new_session=True,  # Ctrl-C reaches the children through launch alone, once
    )


def _send(children: Sequence["subprocess.Popen[str]"], number: int) -> None:
    for child in children:
        with suppress(ProcessLookupError):
            child.send_signal(number)


def _show(child: "subprocess.Popen[str]", index: int) -> None:
    """Shows what the first process says, and the errors of the others; not the logs of JAX."""
    assert child.stderr is not None
    for line in child.stderr:
        ours = line.startswith("mnist-jax: ")
        if index == 0 and (ours or not _is_of_jax(line)):
            console.print_status(line.rstrip("\n"))
        elif ours and "see its message" not in line:
            console.print_status(f"process {index}: {line.rstrip('\n')}")


def _is_of_jax(line: str) -> bool:
    """Whether a line is a log of JAX, such as `E0101 12:00:00 ...` or `[Gloo] ...`, or of its stack."""
    start = line.lstrip()
    logged = start[:1] in ("E", "F", "W", "I") and start[1:5].isdecimal()
    return logged or start.startswith(("[Gloo]", "@ ", "***", "PC:", "#", "Fatal Python", "Current thread"))


def _wait(children: Sequence["subprocess.Popen[str]"], heartbeat_s: float) -> tuple[int, str] | None:
    """Waits until all are done, or one fails; then the others are ended.

    Args:
        children: the processes.
        heartbeat_s: how long one may be stopped, in seconds.

    Returns:
        The process that failed, and what became of it; empty where it said so itself. None for none.
    """
    stopped: dict[int, float] = {}  # since when
    while True:
        codes = [child.poll() for child in children]
        if all(code == 0 for code in codes):
            return None
        still = [index for index, child in enumerate(children) if codes[index] is None and _is_stopped(child)]
        stopped = {index: stopped.get(index, time.monotonic()) for index in still}
        ended = [index for index, code in enumerate(codes) if code not in (None, 0)]
        if ended or any(since + heartbeat_s < time.monotonic() for since in stopped.values()):
            break
        time.sleep(POLL_S)
    failed = next(iter(stopped), ended[0] if ended else 0)
    spoken = failed not in stopped and codes[failed] in SPOKEN
    deadline = time.monotonic() + (GRACE_S if spoken else 0)
    while any(child.poll() is None for child in children) and time.monotonic() < deadline:
        time.sleep(POLL_S)
    _send([child for child in children if child.poll() is None], signal.SIGKILL)
    if failed in stopped:
        return failed, "stopped answering"
    code = codes[failed] or 0
    how = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with code {code}"
    return failed, "" if spoken else how


def _is_stopped(child: "subprocess.Popen[str]") -> bool:
    if not hasattr(os, "waitid"):
        return False
    with suppress(ChildProcessError):
        return os.waitid(os.P_PID, child.pid, os.WSTOPPED | os.WNOHANG | os.WNOWAIT) is not None
    return False


def _report(how: str, failed: int, children: Sequence["subprocess.Popen[str]"], command: list[str]) -> None:
    """Ends as the process that failed; says how to go on if it had no message of its own.

    Raises:
        typer.Exit: always.
    """
    if not how:
        raise typer.Exit(children[failed].returncode)
    folder = _value(command, "--resume") or _value(command, "--out") or ""
    again = f"mnist-jax launch --processes {len(children)} train --resume {shlex.quote(folder)}"
    if command[0] == "sweep":
        again = f"the same command with --out {shlex.quote(folder)}"
    console.print_error(f"process {failed} of {len(children)} {how}; go on from the last checkpoint: {again}")
    raise typer.Exit(1)
