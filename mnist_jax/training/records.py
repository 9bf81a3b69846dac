"""The record of a finished epoch. No JAX."""

from dataclasses import dataclass


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
