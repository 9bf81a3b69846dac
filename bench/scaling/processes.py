"""Processes of this machine that train together when they are told to, so that all groups take turns."""

import json
import os
import socket
import sys
from typing import NamedTuple

from bench.output import status
from bench.scaling.programs import Collective, without_simulation
from bench.workers import Process

REDUCTIONS = 100  # in one go, so that starting them takes no share


class Job(NamedTuple):
    """What all processes of a group do at once.

    Attributes:
        kind: `shared`, an epoch whose batches they share out; `alone`, an epoch of each by itself; `reduce`,
            all-reduces between them.
        preset: the network and how to train it; empty for `reduce`.
        size: the batch size of an epoch, or how many float32 numbers to reduce.
        steps: steps of the epoch, or how many all-reduces.
    """

    kind: str
    preset: str
    size: int
    steps: int


class Group:
    """Some processes on the CPU of this machine, joined by JAX's distributed runtime on 127.0.0.1.

    Attributes:
        count: how many.
        jobs: what they can do.
        sent: what they send each other in a step of each job.
    """

    def __init__(self, count: int, jobs: list[Job], data: list[str]) -> None:
        self.count, self.jobs, self.sent = count, jobs, list[list[Collective]]()
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            port = listener.getsockname()[1]
        fixed = json.dumps(jobs), f"127.0.0.1:{port}", str(count)
        # Each has one device, whatever the caller has simulated.
        variables = {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": without_simulation(os.environ.get("XLA_FLAGS", ""))}
        command = [sys.executable, "-m", "bench.scaling.worker", *fixed]
        self.processes = [
            Process(f"process {index} of {count}", [*command, str(index), *data], variables)
            for index in range(count)
        ]

    def compile(self) -> None:
        """Waits until all processes have compiled their jobs."""
        for number, _ in enumerate(self.jobs, 1):
            status(f"compiling for processes, {self.count} of them: {number} of {len(self.jobs)}")
            sent, *_ = [process.receive() for process in self.processes]
            self.sent.append([Collective(*each) for each in sent])

    def run(self, job: Job) -> None:
        """Has all processes do a job, and waits for the last of them."""
        for process in self.processes:
            process.send(str(self.jobs.index(job)))
        for process in self.processes:
            process.receive()

    def close(self) -> None:
        """Ends all processes."""
        for process in self.processes:
            process.kill()
