"""Settings of a training run, without JAX or Flax.

A `Config` is frozen and hashable, so that it can be a static argument of `jax.jit`. The settings that
`jax.vmap` can sweep over are in `HyperParams`, a pytree of scalars.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, get_args

from mnist_jax._utils.frozen import converted, set_fields
from mnist_jax.config.deformation import Deformation
from mnist_jax.config.functions import Function, as_function
from mnist_jax.config.networks import Dtype, Ensemble, FlaxModel, Trainable
from mnist_jax.config.optimizers import OPTIMIZERS, Optimizer, Schedule, as_optimizer, as_schedule
from mnist_jax.config.validation import (
    FLOAT32_MAX,
    FLOAT32_TINY,
    check_choice,
    check_float,
    check_positive_int,
)
from mnist_jax.errors import SpecError

# What early stopping and the choice of the best epoch can go by, of `EpochRecord`; the first is the default.
MONITORS = ("validation_loss", "validation_accuracy", "loss", "accuracy")


def _as_loss(value: Any) -> Function | None:
    return None if value is None else as_function("loss", value)


@dataclass(frozen=True)
class Config:
    """The static settings of a training run.

    Attributes:
        model: network spec: an `MLP`, a `CNN` or a `FlaxModel`.
        epochs: number of passes over the training set.
        batch_size: examples per step. The last batch of an epoch may be smaller.
        optimizer: an `Optimizer`; or as on the command line, such as `adam` or `sgd:momentum=0.9`; or a
            function from a learning rate to an optax transformation, such as `optax.lion`.
        schedule: a `Schedule`; or as on the command line, such as `cosine`; or a function from the step to
            the learning rate, such as `optax.cosine_decay_schedule(1e-3, 1000)`.
        loss: the loss of each example `[batch]`, a function of logits `[batch, classes]` and labels
            `[batch]`; None for the cross-entropy of the network's output.
        clip_norm: maximum global norm of the gradients (Pascanu et al. 2013), or None for no clipping.
        ema_decay: decay, such as 0.999, of the exponential moving average of the parameters that is
            evaluated and exported (Polyak and Juditsky 1992), or None to use the parameters themselves.
        dtype: dtype in which the layers compute during training. Parameters, optimizer state, loss and
            evaluation are always float32.
        dropout: fraction of each hidden layer's outputs that a training step drops (Srivastava et al. 2014).
            The rest is scaled up, so that evaluation and export need no change.
        deformation: random deformation of the training images at every step, or None.
        fgsm_epsilon: step size, in pixel values of 0..1, of adversarial training: each step also trains on an
            FGSM copy of its images, with the mean loss over both (Goodfellow et al. 2015). 0 turns it off.

    Raises:
        SpecError: if a value is out of range or has the wrong type.

    Examples:
        >>> from mnist_jax import CNN, Config
        >>> config = Config(CNN((8, 24)), epochs=3, batch_size=128, optimizer="sgd:momentum=0.9")
        >>> config.epochs, config.dtype, str(config.optimizer), str(config.schedule)
        (3, 'float32', 'sgd:momentum=0.9', 'constant')
    """

    model: Trainable
    epochs: int = 10
    batch_size: int = 32
    optimizer: converted[str | Callable[..., Any], Optimizer | Function] = converted(
        Optimizer(), as_optimizer
    )
    schedule: converted[str | Callable[..., Any], Schedule | Function] = converted(Schedule(), as_schedule)
    clip_norm: float | None = None
    ema_decay: float | None = None
    dtype: Dtype = "float32"
    dropout: float = 0.0
    deformation: Deformation | None = None
    fgsm_epsilon: float = 0.0
    loss: converted[Callable[..., Any] | None, Function | None] = converted(None, _as_loss)

    def __post_init__(self) -> None:
        if not isinstance(self.model, Trainable):
            hint = "; train its members one by one" if isinstance(self.model, Ensemble) else ""
            raise SpecError(f"model must be an MLP, a CNN or a FlaxModel; got {self.model!r}{hint}")
        set_fields(
            self,
            epochs=check_positive_int("epochs", self.epochs),
            batch_size=check_positive_int("batch size", self.batch_size),
            dropout=check_float("dropout", self.dropout, 0, 1),
            fgsm_epsilon=check_float("fgsm_epsilon", self.fgsm_epsilon, 0, 1),
        )
        check_choice("dtype", self.dtype, get_args(Dtype))
        if isinstance(self.model, FlaxModel) and (self.dropout or self.dtype != "float32"):
            raise SpecError(
                f"dropout and dtype must be those of the module {self.model.name} itself; "
                f"got dropout {self.dropout:g} and dtype {self.dtype}; leave them out"
            )
        if not isinstance(self.deformation, Deformation | None):
            raise SpecError(f"deformation must be a Deformation or None; got {self.deformation!r}")
        if self.clip_norm is not None:
            clip_norm = check_float("clip norm", self.clip_norm, 0, FLOAT32_MAX, open_low=True)
            set_fields(self, clip_norm=clip_norm)
        if self.ema_decay is not None:
            ema_decay = check_float("EMA decay", self.ema_decay, 0, 1, open_low=True)
            set_fields(self, ema_decay=ema_decay)

    @property
    def follows_run(self) -> bool:
        """Whether the learning rate at a step depends on the length of the run."""
        return isinstance(self.schedule, Schedule) and self.schedule.follows_run


class HyperParams(NamedTuple):
    """Hyperparameters that may differ between runs of one compiled program: a pytree of scalars for `vmap`.

    Attributes:
        learning_rate: learning rate, which the schedule multiplies by its factor.
        weight_decay: decoupled weight decay, for every optimizer (Loshchilov and Hutter 2019).
        label_smoothing: fraction of the target that is spread evenly over all classes, in [0, 1).

    Examples:
        >>> from mnist_jax import HyperParams
        >>> HyperParams(learning_rate=3e-3)
        HyperParams(learning_rate=0.003, weight_decay=0.0, label_smoothing=0.0)
    """

    learning_rate: Any = 1e-3
    weight_decay: Any = 0.0
    label_smoothing: Any = 0.0


def default_hyperparams(optimizer: Optimizer | Function) -> HyperParams:
    """The default hyperparameters of an optimizer.

    Args:
        optimizer: an optimizer; its options make no difference.

    Returns:
        Its default learning rate and weight decay, without label smoothing; those of Adam for a function.

    Examples:
        >>> from mnist_jax import Optimizer, default_hyperparams
        >>> default_hyperparams(Optimizer("lion"))
        HyperParams(learning_rate=0.0001, weight_decay=0.001, label_smoothing=0.0)
    """
    recipe = OPTIMIZERS[optimizer.name if isinstance(optimizer, Optimizer) else "adam"]
    return HyperParams(recipe.learning_rate, recipe.weight_decay)


def check_hyperparams(hyperparams: HyperParams) -> None:
    """Check the hyperparameters of a single run.

    Raises:
        SpecError: if one is out of range or not a finite number.
    """
    if not isinstance(hyperparams, HyperParams):
        raise SpecError(f"hyperparams must be a HyperParams; got {hyperparams!r}")
    check_float("learning rate", hyperparams.learning_rate, FLOAT32_TINY, FLOAT32_MAX, open_low=True)
    check_float("weight decay", hyperparams.weight_decay, 0, FLOAT32_MAX)
    check_float("label smoothing", hyperparams.label_smoothing, 0, 1)


def check_effective(config: Config, hyperparams: HyperParams) -> None:
    """Check that no hyperparameter of a single run would be without effect.

    Raises:
        SpecError: if the schedule is a function and the learning rate is not the default, or if there is
            label smoothing and the loss is a function.
    """
    defaults = default_hyperparams(config.optimizer).learning_rate, HyperParams().learning_rate
    is_default = any(math.isclose(hyperparams.learning_rate, rate, rel_tol=1e-6) for rate in defaults)
    if isinstance(config.schedule, Function) and not is_default:  # it may be in float32
        raise SpecError(
            f"learning_rate must be left out where a function, {config.schedule}, gives it; "
            f"got {hyperparams.learning_rate:g}"
        )
    if config.loss is not None and hyperparams.label_smoothing:
        raise SpecError(
            f"label_smoothing must be 0 where the loss is a function, {config.loss}; "
            f"got {hyperparams.label_smoothing:g}"
        )


def check_fraction(value: Any) -> None:
    """Check the fraction of the training set that is used for validation.

    Raises:
        SpecError: if it is not in [0, 1).
    """
    check_float("validation fraction", value, 0, 1)
