"""The user's cache directory for this library."""

from pathlib import Path

import platformdirs


def cache_dir() -> Path:
    """Returns the directory for downloads and unpacked files; below `XDG_CACHE_HOME` on Linux."""
    return Path(platformdirs.user_cache_dir("mnist-jax", appauthor=False))
