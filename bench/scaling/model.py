"""A model of a data parallel step: one device's share of the work, then one all-reduce of the gradients.

    seconds(devices, batch_size) = seconds(1, batch_size / devices) + all_reduce(devices, bytes)

The first term is measured, on one device. The second is the usual model of a link by a latency and a
bandwidth, with the faster of two algorithms: recursive doubling, which sends everything in each of few steps,
and a ring, which sends a part in each of many (Thakur, Rabenseifner and Gropp 2005, "Optimization of
Collective Communication Operations in MPICH").

Assumed: the all-reduce starts when all gradients are known, and sends them at once, as the compiled programs
ask for; devices are equally fast; and each link carries one message at a time in each direction.
"""

import math
from collections.abc import Mapping
from typing import NamedTuple

from mnist_jax.errors import SpecError

LEAST = 1.1  # times as fast as one device: what "pays" means


class Link(NamedTuple):
    """A connection between two devices.

    Attributes:
        name: what it is.
        latency: seconds that a message takes, however short.
        bandwidth: bytes per second in one direction.
    """

    name: str
    latency: float
    bandwidth: float


# Assumptions, not measurements: the bandwidth of the data sheet in one direction, and a round latency of the
# kind's order, software included.
LINKS = (
    Link("10 Gbit Ethernet", 30e-6, 1.25e9),
    Link("100 Gbit InfiniBand", 10e-6, 12.5e9),
    Link("PCI Express 4.0 x16", 10e-6, 32e9),
    Link("NVLink 4", 8e-6, 450e9),
)


def parse_link(text: str) -> Link:
    """A link from `NAME:MICROSECONDS:GIGABYTES_PER_SECOND`.

    Raises:
        SpecError: the text is no such thing.
    """
    try:
        name, latency, bandwidth = text.rsplit(":", 2)
        link = Link(name, 1e-6 * float(latency), 1e9 * float(bandwidth))
        if not name or not 0 <= link.latency < math.inf or not 0 < link.bandwidth < math.inf:
            raise ValueError
    except ValueError:
        raise SpecError(
            f"--link must be NAME:MICROSECONDS:GB_PER_SECOND, such as mine:20:25; got {text!r}"
        ) from None
    return link


def all_reduce(link: Link, devices: int, size: int) -> float:
    """Seconds of an all-reduce of `size` bytes between devices that the link connects in pairs.

    Examples:
        >>> all_reduce(Link("slow", 1.0, 10.0), 1, 100)
        0.0
        >>> all_reduce(Link("slow", 1.0, 10.0), 2, 100)
        11.0
        >>> all_reduce(Link("slow", 1.0, 10.0), 8, 100)  # 14 steps of an eighth, rather than 3 of all
        31.5
    """
    if devices == 1:
        return 0.0
    doubling = math.ceil(math.log2(devices)) * (link.latency + size / link.bandwidth)
    ring = 2 * (devices - 1) * (link.latency + size / devices / link.bandwidth)
    return min(doubling, ring)


def measured_link(name: str, small: tuple[int, float], large: tuple[int, float]) -> Link:
    """The link on which two devices reduce two sizes, in bytes, in the measured seconds."""
    bandwidth = (large[0] - small[0]) / max(large[1] - small[1], 1e-12)
    return Link(name, max(small[1] - small[0] / bandwidth, 0.0), bandwidth)


def speedups(steps: Mapping[int, float], devices: int, link: Link, size: int) -> dict[int, float]:
    """How many times as fast several devices are, by batch size.

    Args:
        steps: measured seconds of one device's step, by batch size.
        devices: how many share the batch.
        link: what connects them.
        size: bytes of the all-reduce.
    """
    return {
        batch_size: seconds / (steps[batch_size // devices] + all_reduce(link, devices, size))
        for batch_size, seconds in sorted(steps.items())
        if batch_size % devices == 0 and batch_size // devices in steps
    }


def pays_from(speedup: Mapping[int, float], least: float = LEAST) -> int | None:
    """The smallest batch size from which on several devices are at least `least` times as fast, or None.

    Examples:
        >>> pays_from({32: 1.1, 64: 0.9, 128: 1.2, 256: 1.6})
        128
    """
    found = None
    for batch_size, value in sorted(speedup.items(), reverse=True):
        if value < least:
            break
        found = batch_size
    return found
