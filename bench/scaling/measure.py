"""Timing of processes on this machine that share out a step: measured, and as the model computes it."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from typing import Any, NamedTuple

from bench import output
from bench.scaling import model
from bench.scaling.processes import REDUCTIONS, Group, Job
from bench.scaling.programs import Collective
from bench.timing import Timing, interleaved
from bench.timing import summarize as summary

SMALL, LARGE = 1, 2**18  # float32 numbers to reduce, for latency and bandwidth
LEAST_STEPS, MOST_STEPS = 4, 64  # of an epoch to time
EXAMPLES = 2**12  # of an epoch to time, between these


class Measured(NamedTuple):
    """What was timed on this machine.

    Attributes:
        rows: a row for each network, batch size and number of processes.
        steps: seconds of one process's step, by network and batch size.
        links: what connects processes, by their number.
    """

    rows: list[dict[str, Any]]
    steps: dict[str, dict[int, float]]
    links: dict[int, model.Link]


def measure(
    presets: list[str],
    batch_sizes: list[int],
    shared: list[int],
    counts: list[int],
    data: list[str],
    examples: int,
    repeats: int,
) -> Measured:
    """Times groups of processes, which take turns.

    Args:
        presets: what to train.
        batch_sizes: of one process.
        shared: batch sizes that the processes of a group share out.
        counts: how many processes a group has; 1 among them.
        data: name and folder of the data set.
        examples: how many it has.
        repeats: how many times to time each.
    """
    sizes = {count: batch_sizes if count == 1 else shared for count in counts}
    jobs = {count: list(_jobs(presets, sizes[count], count, examples)) for count in counts}
    with ExitStack() as stack:
        groups = {}
        for count in counts:
            groups[count] = stack.enter_context(closing(Group(count, jobs[count], data)))
            groups[count].compile()
        runs = {(count, job): _run(groups[count], job) for count in counts for job in jobs[count]}
        timings = interleaved(runs, repeats, output.status)
    sent = {
        (count, job): tuple(sent)
        for count, group in groups.items()
        for job, sent in zip(group.jobs, group.sent, strict=True)
    }
    return summarize(timings, sent)


def _run(group: Group, job: Job) -> Callable[[], None]:
    return lambda: group.run(job)


def _jobs(presets: list[str], batch_sizes: list[int], count: int, examples: int) -> Iterator[Job]:
    """Yields what a group does: epochs shared out and of each alone, and all-reduces of two sizes."""
    for name in presets:
        for size in (size for size in batch_sizes if size % count == 0 and size <= examples):
            steps = min(examples // size, max(LEAST_STEPS, min(MOST_STEPS, EXAMPLES // size)))
            yield Job("alone", name, size // count, steps)
            if count > 1:
                yield Job("shared", name, size, steps)
    if count > 1:
        yield from (Job("reduce", "", size, REDUCTIONS) for size in (SMALL, LARGE))


def summarize(
    timings: dict[tuple[int, Job], Timing], sent: dict[tuple[int, Job], tuple[Collective, ...]]
) -> Measured:
    """Makes rows of timings, and of what is sent in a step, by number of processes and job.

    Rows that Ctrl-C left out are left out.
    """
    seconds = {key: timing.median / key[1].steps for key, timing in timings.items()}
    steps: dict[str, dict[int, float]] = {}
    for (count, job), value in seconds.items():
        if job.kind == "alone" and count == 1:
            steps.setdefault(job.preset, {})[job.size] = value
    links = _links(seconds)
    rows = []
    for (count, job), timing in timings.items():
        row = {
            "preset": job.preset,
            "batch_size": job.size,
            "processes": count,
            "step_seconds": summary([sample / job.steps for sample in timing.samples])._asdict(),
        }
        share = Job("alone", job.preset, job.size // count, job.steps)
        if job.kind == "alone" and count == 1:
            rows.append(row)
        if job.kind == "shared" and (count, share) in seconds and count in links:
            one = steps.get(job.preset, {})
            computed = seconds[count, share] + _all_reduce(links[count], sent[count, job])
            own = seconds[count, job]
            row |= {"computed_seconds": computed, "measured_over_computed": own / computed}
            row |= {"speedup": one[job.size] / own if job.size in one else None}
            row |= {"weak_efficiency": one[share.size] / own if share.size in one else None}
            rows.append(row)
    return Measured(rows, steps, links)


def _all_reduce(link: model.Link, sent: tuple[Collective, ...]) -> float:
    """Seconds that Gloo takes, which sends one array after another."""
    return sum(each.arrays * link.latency + each.size / link.bandwidth for each in sent)


def _links(seconds: dict[tuple[int, Job], float]) -> dict[int, model.Link]:
    """The link of each group that has reduced both sizes."""
    links = {}
    for count in {count for count, _ in seconds}:
        times = [seconds.get((count, Job("reduce", "", size, REDUCTIONS))) for size in (SMALL, LARGE)]
        if times[0] is not None and times[1] is not None:
            points = (4 * SMALL, times[0]), (4 * LARGE, times[1])
            links[count] = model.measured_link(f"{count} processes of this machine", *points)
    return links
