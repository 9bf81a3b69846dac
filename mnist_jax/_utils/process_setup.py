"""Process-wide settings, for the command line only: a library must not change them."""

import io
import logging
import os
import sys
import warnings

from mnist_jax.errors import BackendError


def configure_process() -> None:
    """Sets up telemetry and the output streams, before any command runs."""
    # onnxruntime would otherwise write a device id to the cache folder.
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    if sys.stdout is None or sys.stderr is None:  # closed by the parent process
        devnull = open(os.devnull, "w")  # noqa: SIM115, PTH123
        sys.stdout, sys.stderr = sys.stdout or devnull, sys.stderr or devnull
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # an ASCII terminal shows question marks


def start_jax() -> None:
    """Sets up JAX for a command, before its first use; environment variables take precedence.

    Raises:
        BackendError: JAX cannot start, because of a missing platform or an invalid setting; or a setting is
            active that makes runs impossible to repeat from their directory.
    """
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # leave GPU memory to other processes
    try:
        import jax

        jax.devices()
    except Exception as error:  # of any type: a missing plugin fails an assertion
        raise BackendError(_startup_failure("JAX", error)) from None
    for name, usual in (("jax_random_seed_offset", 0), ("jax_threefry_partitionable", True)):
        if (value := getattr(jax.config, name, usual)) != usual:
            raise BackendError(
                f"{name.upper()} must be {int(usual)}, since it changes a seed's keys and config.json does "
                f"not record it; got {int(value)}; unset it"
            )

    for direction in ("host_to_device", "device_to_device", "device_to_host"):
        guard = f"jax_transfer_guard_{direction}"
        if str(getattr(jax.config, guard)).startswith("disallow"):
            jax.config.update(guard, "allow")  # all transfers of a command are intended
    # JAX recompiles what a damaged or read-only cache cannot give.
    warnings.filterwarnings("ignore", message=".*persistent compilation cache")
    _enable_compilation_cache()


def default_prng_impl() -> str:
    """Returns the name of JAX's default PRNG implementation, which `JAX_DEFAULT_PRNG_IMPL` sets."""
    import jax

    return str(jax.config.jax_default_prng_impl)


def start_matplotlib() -> None:
    """Imports Matplotlib, so that a bad setting fails before any work is done.

    Raises:
        BackendError: Matplotlib cannot start, because of an invalid environment variable.
    """
    logging.getLogger("matplotlib").setLevel(logging.ERROR)  # hides notes about its font cache
    try:
        import matplotlib  # noqa: F401
    except ValueError as error:
        raise BackendError(_startup_failure("Matplotlib", error)) from None


def environment_hint(library: str, *, ignore: tuple[str, ...] = ()) -> str:
    """Lists a library's environment variables as a hint, such as `; check JAX_PLATFORMS=cuda`."""
    prefix = {"JAX": "JAX_", "Matplotlib": "MPL"}[library]
    names = [name for name in sorted(os.environ) if name.startswith(prefix) and name not in ignore]
    settings = [f"{name}={os.environ[name]}" for name in names]
    return f"; check {', '.join(settings)}" if settings else ""


def _startup_failure(library: str, error: Exception) -> str:
    """Says why a library does not start, and which environment variables may be the cause."""
    reason = str(error).partition("\n")[0].rstrip(". ") or "there is no such platform on this machine"
    return f"{library} must be able to start; {reason}{environment_hint(library)}"


def _enable_compilation_cache() -> None:
    """Points JAX's compilation cache to our cache directory, unless the user names another."""
    import jax

    from mnist_jax._utils.cache_dir import cache_dir

    if "JAX_COMPILATION_CACHE_DIR" in os.environ:
        return
    folder = cache_dir() / "compiled"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:  # without a cache every start recompiles
        return
    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
