"""Paths of the checkout and of the tests' cache of packages from npm and pip."""

import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[2]
KEPT = Path(tempfile.gettempdir()) / "mnist-jax-tests"
