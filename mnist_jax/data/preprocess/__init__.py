"""Preprocessing of photos, scans and drawings of a digit into 28x28 images like those of MNIST.

`examine` shows each step: the ink that stands out from the paper around it, without printed lines; the
strokes that make one digit; MNIST's own framing. `prepare` returns the image alone, and raises an error where
there is doubt. `prepare_all` reads a page of digits. Uses NumPy, Pillow and OpenCV, imported on first use.
"""

from typing import Any

import lazy_loader

from mnist_jax.errors import NotInstalledError

_lazy_getattr, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)


def __getattr__(name: str) -> Any:
    """Import a public name on first use.

    Raises:
        NotInstalledError: if its module requires a package that is not installed.
        AttributeError: if there is no such name.
    """
    try:
        return _lazy_getattr(name)
    except ModuleNotFoundError as error:
        raise NotInstalledError(f"mnist_jax.preprocess.{name}", error) from None
