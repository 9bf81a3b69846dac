"""Process-wide settings, which belong to a program and never to a library."""

import os


def start_jax() -> None:
    """Sets JAX up for a command, before its first use; what the user has set in the environment stays."""
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # leave GPU memory to others

    import jax

    from mnist_jax.store import cache_folder

    if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
        jax.config.update("jax_compilation_cache_dir", str(cache_folder() / "compiled"))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
