"""Callbacks of `fit`: early stopping, the parameters of the best epoch, logs.

A callback is a function of an epoch's record and the state; training stops if it returns True. One with a
memory is a pair of pure functions, `init` and `update`. Its memory is a pytree in `TrainState.memories`, so
that checkpoints hold it, and a resumed run ends as one that was never stopped.
"""

from mnist_jax.training.callbacks.best import EarlyStopping, KeepBest
from mnist_jax.training.callbacks.loggers import CSVLogger, TensorBoard
from mnist_jax.training.callbacks.running import Callback, CallbackWithMemory

__all__ = ("CSVLogger", "Callback", "CallbackWithMemory", "EarlyStopping", "KeepBest", "TensorBoard")
