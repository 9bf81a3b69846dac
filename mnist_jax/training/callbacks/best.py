"""Callbacks that follow the best epoch: early stopping, and keeping its parameters."""

from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Float32, Int32

from mnist_jax._utils.frozen import set_fields
from mnist_jax.config.training import MONITORS
from mnist_jax.config.validation import FLOAT32_MAX, check_choice, check_float, check_positive_int
from mnist_jax.errors import SpecError
from mnist_jax.training.records import EpochRecord
from mnist_jax.training.state import TrainState
from mnist_jax.types import Array, Params


class Best(NamedTuple):
    """The best epoch so far.

    Attributes:
        value: the monitored value.
        epoch: its epoch; 0 before the first one.
        params: its parameters, as `TrainState.current_params`; None where they are not kept.
    """

    value: Float32[Array, ""]
    epoch: Int32[Array, ""]
    params: Params | None = None


@dataclass(frozen=True)
class EarlyStopping:
    """Stops training when the monitored value has not improved for some epochs (Prechelt 1998).

    Attributes:
        monitor: `validation_loss`, `validation_accuracy`, `loss` or `accuracy`.
        patience: number of epochs without an improvement after which training stops.
        min_delta: smallest change that counts as an improvement.

    Raises:
        SpecError: if a value is out of range, or, in `fit`, there is no validation set to monitor.

    Examples:
        >>> import jax
        >>> from mnist_jax import MLP, Config, callbacks, fit, load
        >>> data = load("digits")
        >>> config = Config(MLP((32,)), epochs=100, optimizer="adam")
        >>> stop = callbacks.EarlyStopping("validation_accuracy", patience=2)
        >>> result = fit(config, data.train, data.validation, key=jax.random.key(0), callback=stop)
        >>> len(result.history) - result.best_epoch
        2
    """

    monitor: str = "validation_loss"
    patience: int = 5
    min_delta: float = 0.0

    def __post_init__(self) -> None:
        check_choice("monitor", self.monitor, MONITORS)
        set_fields(
            self,
            patience=check_positive_int("patience", self.patience),
            min_delta=check_float("min_delta", self.min_delta, 0, FLOAT32_MAX),
        )

    def init(self, state: TrainState) -> Best:
        """As for `CallbackWithMemory`."""
        return _start(self.monitor)

    def update(self, memory: Best, record: EpochRecord, state: TrainState) -> tuple[Best, bool]:
        """As for `CallbackWithMemory`."""
        value = _monitored(self.monitor, record)
        if _is_better(self.monitor, value, memory.value, self.min_delta):
            memory = Best(jnp.float32(value), jnp.int32(record.epoch))
        return memory, self.is_over(memory, record.epoch)

    def is_over(self, memory: Best, epoch: int) -> bool:
        """Whether an epoch is so long after the best one that training stops; 0 for none."""
        return epoch > 0 and epoch - int(memory.epoch) >= self.patience


@dataclass(frozen=True)
class KeepBest:
    """Keeps the parameters of the best epoch, which are then those to evaluate and export.

    Attributes:
        monitor: `validation_loss`, `validation_accuracy`, `loss` or `accuracy`.

    Raises:
        SpecError: if `monitor` is unknown, or, in `fit`, there is no validation set to monitor.

    Examples:
        >>> import jax
        >>> from mnist_jax import MLP, Config, callbacks, fit, load
        >>> data = load("digits")
        >>> config = Config(MLP((32,)), epochs=3)
        >>> keep = callbacks.KeepBest("validation_accuracy")
        >>> result = fit(config, data.train, data.validation, key=jax.random.key(0), callback=keep)
        >>> result.params is result.state.memories["KeepBest"].params
        True
    """

    monitor: str = "validation_loss"

    def __post_init__(self) -> None:
        check_choice("monitor", self.monitor, MONITORS)

    def init(self, state: TrainState) -> Best:
        """As for `CallbackWithMemory`."""
        return _start(self.monitor)._replace(params=jax.tree.map(jnp.copy, state.current_params))

    def update(self, memory: Best, record: EpochRecord, state: TrainState) -> tuple[Best, bool]:
        """As for `CallbackWithMemory`."""
        value = _monitored(self.monitor, record)
        if _is_better(self.monitor, value, memory.value):
            memory = Best(jnp.float32(value), jnp.int32(record.epoch), state.current_params)
        return memory, False


def _start(monitor: str) -> Best:
    worst = -jnp.inf if monitor.endswith("accuracy") else jnp.inf
    return Best(jnp.float32(worst), jnp.int32(0))


def _is_better(monitor: str, value: float, best: Array, min_delta: float = 0.0) -> bool:
    gain = jnp.float32(value) - best if monitor.endswith("accuracy") else best - jnp.float32(value)
    return bool(gain > min_delta)


def _monitored(monitor: str, record: EpochRecord) -> float:
    value: float | None = getattr(record, monitor)
    if value is None:
        raise SpecError(f"{monitor} can be monitored with a validation set only; got none; monitor loss")
    return value
