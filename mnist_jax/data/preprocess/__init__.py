"""Preprocessing of photos, scans and drawings of a digit into 28x28 images like those of MNIST.

`examine` shows each step: the ink that stands out from the paper around it, without printed lines; the
strokes that make one digit; MNIST's own framing. `prepare` returns the image alone, and raises an error where
there is doubt. `prepare_all` reads a page of digits. Uses NumPy, Pillow and OpenCV, imported on first use.
"""

from mnist_jax._utils import lazy_package

__getattr__, __dir__, __all__ = lazy_package.attach(__name__, __file__, "mnist_jax.preprocess")
