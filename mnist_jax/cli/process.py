"""Process-wide settings, which belong to a program and never to a library."""

import io
import logging
import os
import sys
import warnings

from mnist_jax.errors import BackendError


def settle() -> None:
    """Makes the process fit for any command, before it does anything."""
    os.environ.setdefault(
        "ORT_DISABLE_TELEMETRY", "1"
    )  # onnxruntime would leave a device id in the cache folder
    if sys.stdout is None or sys.stderr is None:  # closed by whoever started us
        nowhere = open(os.devnull, "w")  # noqa: SIM115, PTH123
        sys.stdout, sys.stderr = sys.stdout or nowhere, sys.stderr or nowhere
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal that knows ASCII alone gets a question mark


def start_jax() -> None:
    """Sets JAX up for a command, before its first use; what the user has set in the environment stays.

    Raises:
        BackendError: JAX can't start: a platform that is not on this machine, a value that it does not take.
            Or a setting under which a run could not be repeated from its directory.
    """
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # leave GPU memory to others
    try:
        import jax

        jax.devices()
    except Exception as error:  # of any kind: an assertion fails where a plugin is not installed
        raise BackendError(_why("JAX", error)) from None
    for name, usual in (("jax_random_seed_offset", 0), ("jax_threefry_partitionable", True)):
        if (came := getattr(jax.config, name, usual)) != usual:
            raise BackendError(
                f"{name.upper()} must be {int(usual)}, since it changes a seed's keys and config.json does "
                f"not record it; got {int(came)}; unset it"
            )

    for way in ("host_to_device", "device_to_device", "device_to_host"):
        guard = f"jax_transfer_guard_{way}"
        if str(getattr(jax.config, guard)).startswith("disallow"):
            jax.config.update(guard, "allow")  # it is for transfers that are not meant, and here all are
    warnings.filterwarnings(
        "ignore", message=".*persistent compilation cache"
    )  # a damaged entry is made anew, and a folder that can't be written to is done without
    _keep_compiled()


def default_prng_impl() -> str:
    """What JAX makes keys of where nothing else is asked for; `JAX_DEFAULT_PRNG_IMPL` sets it."""
    import jax

    return str(jax.config.jax_default_prng_impl)


def start_matplotlib() -> None:
    """Sees to it that figures can be drawn, before there is work to lose.

    Raises:
        BackendError: Matplotlib can't start: its environment has a value that it does not take.
    """
    logging.getLogger("matplotlib").setLevel(logging.ERROR)  # where it may keep its fonts, it finds out alone
    try:
        import matplotlib  # noqa: F401
    except ValueError as error:
        raise BackendError(_why("Matplotlib", error)) from None


def asked_of(library: str, *, but: tuple[str, ...] = ()) -> str:
    """What the environment asks of a library: `; look at JAX_PLATFORMS=cuda`, or nothing."""
    own = {"JAX": "JAX_", "Matplotlib": "MPL"}[library]
    names = [name for name in sorted(os.environ) if name.startswith(own) and name not in but]
    asked = [f"{name}={os.environ[name]}" for name in names]
    return f"; look at {', '.join(asked)}" if asked else ""


def _why(library: str, error: Exception) -> str:
    """Why a library does not start, with what in the environment it may be."""
    said = str(error).partition("\n")[0].rstrip(". ") or "it finds no such platform on this machine"
    return f"{library} must be able to start; {said}{asked_of(library)}"


def _keep_compiled() -> None:
    """Lets JAX keep what it compiles in our cache folder, where the user names none."""
    import jax

    from mnist_jax.store import cache_folder

    if "JAX_COMPILATION_CACHE_DIR" in os.environ:
        return
    folder = cache_folder() / "compiled"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:  # then every start compiles anew
        return
    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
