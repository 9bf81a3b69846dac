"""Process-wide settings, which belong to a program and never to a library."""

import io
import os
import sys
import warnings


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
    """Sets JAX up for a command, before its first use; what the user has set in the environment stays."""
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # leave GPU memory to others

    import jax

    from mnist_jax.store import cache_folder

    if "JAX_COMPILATION_CACHE_DIR" in os.environ:
        return
    folder = cache_folder() / "compiled"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:  # then every start compiles anew
        return
    warnings.filterwarnings(
        "ignore", message=".*persistent compilation cache"
    )  # a damaged entry is made anew
    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
