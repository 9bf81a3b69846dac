"""Which devices a benchmark measures: each by itself, or several that share the work."""

from typing import TYPE_CHECKING, Annotated

import typer

from mnist_jax.parallel.selection import check_devices, select_devices

if TYPE_CHECKING:
    import jax
    from jax.sharding import Mesh

Devices = Annotated[
    list[str] | None,
    typer.Option("--devices", metavar="all|N", help="How many devices share the work; may be repeated."),
]


def groups(counts: list[str] | None) -> "list[list[jax.Device]]":
    """The devices that work together, for each count; without counts, each device by itself.

    Raises:
        SpecError: there are fewer, or a count is none.
    """
    import jax

    if not counts:
        return [[device] for device in jax.devices()]
    return [select_devices(check_devices(count)) or [] for count in counts]


def mesh_of(devices: "list[jax.Device]") -> "Mesh | None":
    """The mesh of several devices; None for one, whose programs then are those without a mesh."""
    from mnist_jax.parallel.mesh import as_mesh

    return as_mesh(devices) if len(devices) > 1 else None


def name_of(devices: "list[jax.Device]") -> str:
    """The name of a device, such as `gpu:0`, or of several, such as `simulated cpu:0-3`."""
    first = devices[0]
    simulated = "simulated " if first.platform == "cpu" and first.client.local_device_count() > 1 else ""
    last = f"-{devices[-1].id}" if len(devices) > 1 else ""
    return f"{simulated}{first.platform}:{first.id}{last}"
