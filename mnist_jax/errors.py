"""What can go wrong, by name: catch `MnistJaxError` for all of it, or one kind."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mnist_jax.loop import EpochRecord
    from mnist_jax.train import TrainState


class MnistJaxError(Exception):
    """The base of every error this library raises on purpose: one line, meant to be read."""


class SpecError(MnistJaxError, ValueError):
    """A network, preset or training setting that cannot exist."""


class InputError(MnistJaxError, ValueError):
    """Images or labels of the wrong shape, dtype or range."""


class ImageError(InputError):
    """A picture that is damaged, or that does not show one digit."""


class DatasetError(MnistJaxError):
    """A data set's files are damaged, or are not what they should be."""


class DatasetUnavailableError(DatasetError):
    """A data set is neither on this machine nor to be fetched."""


class CheckpointError(MnistJaxError):
    """A checkpoint is damaged, or holds other arrays than were asked for."""


class RunError(MnistJaxError):
    """A run directory is missing, taken, or cannot be written."""


class ModelError(MnistJaxError):
    """An ONNX file is damaged, or is not one of ours."""


class BackendError(MnistJaxError):
    """JAX or Matplotlib can't start: what the environment asks for is not there, or is no value it takes."""


class RuntimeUnavailableError(ModelError):
    """Another runtime for ONNX files cannot be installed on this machine."""


class NotInstalledError(MnistJaxError, ModuleNotFoundError):
    """A package that something needs is not installed; says which, and what to do.

    Args:
        what: needs it.
        error: Python's own.
    """

    def __init__(self, what: str, error: ModuleNotFoundError) -> None:
        module = (error.name or "a package").partition(".")[0]
        package = {"PIL": "pillow", "sklearn": "scikit-learn"}.get(module, module)
        super().__init__(
            f"{what} needs {package}, which is not installed; pip install {package}, "
            "or pip install mnist-jax for all that it needs",
            name=error.name,
        )


class DivergenceError(MnistJaxError, ArithmeticError):
    """The loss or a parameter stopped being a finite number during training.

    Attributes:
        state: the last finite one, from before the epoch in which that happened.
        history: the records of the epochs before it.
    """

    def __init__(self, message: str, state: "TrainState", history: "list[EpochRecord]") -> None:
        super().__init__(message)
        self.state, self.history = state, history
