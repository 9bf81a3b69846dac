"""Exceptions. `MnistJaxError` is the base class of all of them."""

from typing import Any


class MnistJaxError(Exception):
    """Base class of all errors that this library raises; the message is a single line."""


class SpecError(MnistJaxError, ValueError):
    """An invalid network spec, preset or training setting."""


class InputError(MnistJaxError, ValueError):
    """Images or labels of the wrong shape, dtype or range."""


class ImageError(InputError):
    """A picture that is damaged or does not show exactly one digit."""


class DatasetError(MnistJaxError):
    """Files of a data set that are damaged or have the wrong content."""


class DatasetUnavailableError(DatasetError):
    """A data set that is not on this machine and cannot be downloaded."""


class CheckpointError(MnistJaxError):
    """A checkpoint that is damaged or holds other arrays than expected."""


class RunError(MnistJaxError):
    """A run directory that is missing, in use or not writable."""


class ModelError(MnistJaxError):
    """An ONNX file that is damaged or was not exported by this library."""


class BackendError(MnistJaxError):
    """A backend of JAX or Matplotlib, selected by the environment, that is unknown or cannot start."""


class PeerError(MnistJaxError):
    """Another of several processes failed; its own message says why."""


class RuntimeUnavailableError(ModelError):
    """Another ONNX runtime that cannot be installed on this machine."""


class NotInstalledError(MnistJaxError, ModuleNotFoundError):
    """A required package that is not installed; the message says how to install it.

    Args:
        what: the function, module or command that requires the package.
        error: the original error.
    """

    def __init__(self, what: str, error: ModuleNotFoundError) -> None:
        module = (error.name or "a package").partition(".")[0]
        package = {"PIL": "pillow", "cv2": "opencv-python-headless", "sklearn": "scikit-learn"}.get(
            module, module
        )
        super().__init__(
            f"{what} needs {package}, which is not installed; pip install {package}, "
            "or pip install mnist-jax for all dependencies",
            name=error.name,
        )


class DivergenceError(MnistJaxError, ArithmeticError):
    """The loss or a parameter became NaN or infinite during training.

    Attributes:
        state: the last finite `TrainState`, from the end of the previous epoch.
        history: the `EpochRecord` of each previous epoch.
    """

    def __init__(self, message: str, state: Any, history: list[Any]) -> None:
        super().__init__(message)
        self.state, self.history = state, history
