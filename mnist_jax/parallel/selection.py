"""Devices by number, as command lines name them."""

from typing import TYPE_CHECKING

from mnist_jax.errors import SpecError

if TYPE_CHECKING:
    import jax


def check_devices(text: str | None) -> str | None:
    """Checks the form of `--devices`: all, a number, or nothing. Imports no JAX.

    Raises:
        SpecError: it is something else.
    """
    if text not in (None, "all") and not (text.isdecimal() and int(text)):
        raise SpecError(f"--devices must be all, or a number of at least 1; got {text!r}")
    return text


def select_devices(text: str | None) -> "list[jax.Device] | None":
    """The devices that `--devices` names; all of all processes where there are several.

    Raises:
        SpecError: there are fewer.
    """
    import jax

    devices = jax.devices()
    if jax.process_count() > 1:
        if text not in (None, "all"):
            raise SpecError(f"--devices must be all where several processes share the work; got {text}")
        return devices
    if text is None:
        return None
    count = len(devices) if text == "all" else int(text)
    if count > len(devices):
        raise SpecError(f"--devices must be at most {len(devices)}, all that JAX has here; got {count}")
    return devices[:count]
