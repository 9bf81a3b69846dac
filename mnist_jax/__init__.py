"""Digit classifiers trained in JAX as pure functions, proven, and run anywhere as ONNX.

    import jax, mnist_jax

    data = mnist_jax.load("digits")
    config = mnist_jax.Config(mnist_jax.MLP((128, 64), ("relu", "relu")), epochs=20)
    run = mnist_jax.fit(config, data.train, data.validation, key=jax.random.key(0))
    print(mnist_jax.evaluate(config.model, run.params, data.test).accuracy)

Importing this package imports nothing else: each name below is looked up when it is first used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mnist_jax import adversarial as adversarial
    from mnist_jax import augment as augment
    from mnist_jax import checkpoint as checkpoint
    from mnist_jax import errors as errors
    from mnist_jax import inspection as inspection
    from mnist_jax import metrics as metrics
    from mnist_jax import plots as plots
    from mnist_jax import prepare as prepare
    from mnist_jax import robustness as robustness
    from mnist_jax.datasets import Dataset as Dataset
    from mnist_jax.datasets import load as load
    from mnist_jax.deformations import Deformation as Deformation
    from mnist_jax.evaluation import Evaluation as Evaluation
    from mnist_jax.evaluation import evaluate as evaluate
    from mnist_jax.loop import EpochRecord as EpochRecord
    from mnist_jax.loop import Fit as Fit
    from mnist_jax.loop import fit as fit
    from mnist_jax.models import activations as activations
    from mnist_jax.models import apply as apply
    from mnist_jax.models import ensemble_params as ensemble_params
    from mnist_jax.models import init as init
    from mnist_jax.models import predict as predict
    from mnist_jax.networks import CNN as CNN
    from mnist_jax.networks import MLP as MLP
    from mnist_jax.networks import Ensemble as Ensemble
    from mnist_jax.networks import Network as Network
    from mnist_jax.networks import Spec as Spec
    from mnist_jax.optimizers import OPTIMIZERS as OPTIMIZERS
    from mnist_jax.optimizers import SCHEDULES as SCHEDULES
    from mnist_jax.optimizers import Optimizer as Optimizer
    from mnist_jax.optimizers import Schedule as Schedule
    from mnist_jax.presets import PRESETS as PRESETS
    from mnist_jax.presets import preset as preset
    from mnist_jax.sources import DATASETS as DATASETS
    from mnist_jax.specs import Config as Config
    from mnist_jax.specs import Hyper as Hyper
    from mnist_jax.specs import default_hyper as default_hyper
    from mnist_jax.sweep import Sweep as Sweep
    from mnist_jax.sweep import fit_many as fit_many
    from mnist_jax.train import StepMetrics as StepMetrics
    from mnist_jax.train import TrainState as TrainState
    from mnist_jax.train import init_state as init_state
    from mnist_jax.train import train_epoch as train_epoch
    from mnist_jax.train import train_step as train_step
    from mnist_jax.types import Examples as Examples
    from mnist_jax.types import HeldOut as HeldOut

_MODULES = (
    "adversarial",
    "augment",
    "checkpoint",
    "errors",
    "inspection",
    "metrics",
    "plots",
    "prepare",
    "robustness",
)
_NAMES = {
    "datasets": ("Dataset", "load"),
    "deformations": ("Deformation",),
    "evaluation": ("Evaluation", "evaluate"),
    "loop": ("EpochRecord", "Fit", "fit"),
    "models": ("activations", "apply", "ensemble_params", "init", "predict"),
    "networks": ("CNN", "MLP", "Ensemble", "Network", "Spec"),
    "optimizers": ("OPTIMIZERS", "SCHEDULES", "Optimizer", "Schedule"),
    "presets": ("PRESETS", "preset"),
    "sources": ("DATASETS",),
    "specs": ("Config", "Hyper", "default_hyper"),
    "sweep": ("Sweep", "fit_many"),
    "train": ("StepMetrics", "TrainState", "init_state", "train_epoch", "train_step"),
    "types": ("Examples", "HeldOut"),
}
_HOME = {name: module for module, names in _NAMES.items() for name in names}

__all__ = sorted((*_HOME, *_MODULES))  # noqa: PLE0605


def __getattr__(name: str) -> Any:
    """The thing of that name, from its module.

    Raises:
        NotInstalledError: its module needs a package that is not installed.
        AttributeError: there is no such name.
    """
    try:
        if name in _MODULES:
            return import_module(f"{__name__}.{name}")
        if name in _HOME:
            return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
    except ModuleNotFoundError as error:
        from mnist_jax.errors import NotInstalledError

        raise NotInstalledError(f"{__name__}.{name}", error) from None
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
