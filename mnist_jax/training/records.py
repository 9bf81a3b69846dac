"""The records of training: of an epoch, and of a whole run. No JAX."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from mnist_jax._utils.text import percent

if TYPE_CHECKING:
    from mnist_jax.training.state import TrainState
    from mnist_jax.types import Params


@dataclass(frozen=True)
class EpochRecord:
    """One row of a run's history.

    Attributes:
        epoch: epoch number, from 1.
        loss: mean training loss over the epoch, in nats, measured in each step before its update, as Keras
            reports it; with `fgsm_epsilon`, the mean over adversarial copies too.
        accuracy: training accuracy over the epoch, 0 to 1, measured likewise.
        validation_loss: loss on the validation set after the epoch, in nats; None without one.
        validation_accuracy: accuracy on the validation set after the epoch, 0 to 1; None without one.
        seconds: wall time of training, without compilation and validation.
        images_per_second: training examples per second of `seconds`.

    Examples:
        >>> record = EpochRecord(1, 0.5, 0.875, None, None, 2.0, 30000.0)
        >>> record.epoch, record.accuracy
        (1, 0.875)
    """

    epoch: int
    loss: float
    accuracy: float
    validation_loss: float | None
    validation_accuracy: float | None
    seconds: float
    images_per_second: float


class FitResult(NamedTuple):
    """The result of `fit`.

    Attributes:
        state: the last training state.
        history: one record per epoch that this call trained.
        compile_seconds: wall time of compilation, in seconds.
        losses: training loss of each step of this call, in nats, float32 `[steps]`.

    Examples:
        >>> import jax
        >>> from mnist_jax import MLP, Config, init_state
        >>> state = init_state(Config(MLP((4,), ("relu",))), jax.random.key(0))
        >>> FitResult(state, history=[], compile_seconds=0.0).params is state.params
        True
    """

    state: "TrainState"
    history: list[EpochRecord]
    compile_seconds: float
    losses: Any = ()

    @property
    def params(self) -> "Params":
        """The trained parameters: those of the best epoch with `KeepBest`, else the last or averaged ones."""
        return self.state.eval_params

    @property
    def best_epoch(self) -> int | None:
        """The epoch whose parameters are kept, or else that of the lowest validation loss; None for none."""
        for memory in (self.state.memories or {}).values():
            if int(getattr(memory, "epoch", 0)):
                return int(memory.epoch)
        scored = [record for record in self.history if record.validation_loss is not None]
        return min(scored, key=lambda record: record.validation_loss or 0.0).epoch if scored else None

    def __repr__(self) -> str:
        last = f", last: {describe(self.history[-1])}" if self.history else ""
        best = f", best epoch: {self.best_epoch}" if self.best_epoch else ""
        return f"FitResult({len(self.history)} epochs{last}{best})"


def describe(record: EpochRecord) -> str:
    """An epoch's scores in one line."""
    text = f"loss {record.loss:.4f}, accuracy {percent(record.accuracy)}"
    if record.validation_accuracy is None:
        return text
    return f"{text}, validation {percent(record.validation_accuracy)}"
