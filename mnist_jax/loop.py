"""A whole run: the plain Python loop around `train_epoch` that compiles, times, watches and reports."""

import functools
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool

from mnist_jax.checks import check_config, check_pixels
from mnist_jax.errors import DivergenceError, InputError, SpecError
from mnist_jax.evaluation import Evaluation, evaluate
from mnist_jax.models import check_key
from mnist_jax.specs import Config, Hyper, check_hyper, default_hyper
from mnist_jax.train import StepMetrics, TrainState, as_trainable, init_state, train_epoch
from mnist_jax.types import Array, Examples, Key, Params


@dataclass(frozen=True)
class EpochRecord:
    """One line of a run's history.

    Attributes:
        epoch: counted from 1.
        loss, accuracy: over the epoch's steps, each measured before its update, as Keras reports them; with
            adversarial images, the loss is the mean over them too.
        validation_loss, validation_accuracy: after the epoch; None without a validation set.
        seconds: of training alone, on the clock from its start until its result is ready.
        images_per_second: the training set's size by `seconds`.
    """

    epoch: int
    loss: float
    accuracy: float
    validation_loss: float | None
    validation_accuracy: float | None
    seconds: float
    images_per_second: float


class Fit(NamedTuple):
    """A finished run: its last state, its history, and the seconds that compiling took."""

    state: TrainState
    history: list[EpochRecord]
    compile_seconds: float

    @property
    def params(self) -> Params:
        """The trained network's: the moving average where the config asks for one."""
        return self.state.eval_params


# Donation gives the old state's memory to the new one, so nothing that anybody holds must go in here.
_train_epoch = jax.jit(train_epoch, static_argnums=0, donate_argnums=2)
_evaluate = jax.jit(evaluate, static_argnums=0, static_argnames="batch_size")


@jax.jit
def _all_finite(params: Params) -> Bool[Array, ""]:
    return jnp.stack([jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(params)]).all()


@jax.transfer_guard("allow")  # a caller's guard is for transfers that are not meant; these are
def fit(
    config: Config,
    train: Examples,
    validation: Examples | None = None,
    *,
    key: Key | None = None,
    state: TrainState | None = None,
    hyper: Hyper | None = None,
    callback: Callable[[EpochRecord, TrainState], bool | None] | None = None,
) -> Fit:
    """Trains until `config.epochs` are done, on JAX's default device: from scratch, or on from a state.

    A run that is stopped and goes on from its state ends with the same bits as one that was not.

    Args:
        config: the network and how to train it.
        train: what to learn from; goes to the device once, and stays.
        validation: scored after each epoch.
        key: the run's only source of randomness. Same key, same machine: same bits.
        state: where to go on, in place of a key: the end of an epoch of the same run.
        hyper: the numbers of this run; by default the optimiser's own.
        callback: called after each epoch with its record and the state, which may be kept as it is.
            Training stops where it returns True.

    Returns:
        The last state, and the history of the epochs that this call has done.

    Raises:
        SpecError: a number in `hyper` is out of range; `callback` is no function; both a key and a state, or
            neither; a state that is another config's, or not at the end of an epoch.
        InputError: images or labels are not what they must be, or fewer than a batch.
        DivergenceError: the loss or a parameter became NaN or infinite; has the last finite state.
    """
    check_config(config)
    hyper = default_hyper(config.optimizer) if hyper is None else hyper
    check_hyper(hyper)
    train, validation = as_sets(config, train, validation)
    if callback is not None and not callable(callback):
        raise SpecError(f"callback must be a function of a record and a state; got {callback!r}")
    hyper = jax.tree.map(jnp.float32, hyper)
    train = jax.device_put(train)
    validation = jax.device_put(validation)
    state, done = _start(config, key, state, len(train))
    start = time.perf_counter()
    if jax.config.jax_debug_nans or jax.config.jax_debug_infs:
        # JAX's own check needs a call by jit, and looks at the arguments again, so that none may be donated.
        run_epoch: Callable[..., Any] = functools.partial(jax.jit(train_epoch, static_argnums=0), config)
    else:
        run_epoch = compiled(_train_epoch, hyper, state, train, static=(config,))
    compile_seconds = time.perf_counter() - start

    history: list[EpochRecord] = []
    for epoch in range(done + 1, config.epochs + 1):
        before, donated = state, jax.tree.map(jnp.copy, state)  # the last finite one is kept
        start = time.perf_counter()
        try:
            state, steps = jax.block_until_ready(run_epoch(hyper, donated, train))
            seconds = time.perf_counter() - start
            scores = None if validation is None else _evaluate(config.model, state.eval_params, validation)
        except FloatingPointError as error:  # of JAX's own check, where jax_debug_nans asks for it
            found = f" ({str(error).partition('\n')[0]})"
            raise DivergenceError(_diverged(epoch, found, hyper), before, history) from error
        finite = _all_finite(state.params) and (scores is None or np.isfinite(scores.loss))
        if not (finite and np.isfinite(steps.loss).all()):
            raise DivergenceError(_diverged(epoch, _at_step(steps), hyper), before, history)
        record = record_of(epoch, steps, scores, seconds)
        history.append(record)
        if callback is not None and callback(record, state):
            break
    return Fit(state, history, compile_seconds)


def compiled(program: Any, *arguments: Any, static: tuple[Any, ...] = ()) -> Callable[..., Any]:
    """A jitted function of static arguments and of such others, which it is left to be called with.

    Where compiling is switched off, as by `jax.disable_jit`, it runs operation by operation.
    """
    if jax.config.jax_disable_jit:
        return functools.partial(program, *static)
    found: Callable[..., Any] = program.lower(*static, *arguments).compile()
    return found


def record_of(epoch: int, steps: StepMetrics, scores: Evaluation | None, seconds: float) -> EpochRecord:
    """An epoch in one line, from what its steps saw, its validation scores and its time."""
    losses, sizes = np.asarray(steps.loss, np.float64), np.asarray(steps.size)
    return EpochRecord(
        epoch=epoch,
        loss=float(losses @ sizes / sizes.sum()),
        accuracy=float(np.asarray(steps.correct).sum() / sizes.sum()),
        validation_loss=None if scores is None else float(scores.loss),
        validation_accuracy=None if scores is None else float(scores.accuracy),
        seconds=seconds,
        images_per_second=float(sizes.sum() / seconds),
    )


def _start(config: Config, key: Key | None, state: TrainState | None, count: int) -> tuple[TrainState, int]:
    """The state to begin with, and the epochs that it has behind it."""
    if state is None and key is not None:
        return init_state(config, key), 0
    if state is None or key is not None:
        raise SpecError("fit takes either a key, to train from scratch, or a state, to go on from")
    expected = jax.eval_shape(functools.partial(init_state, config), jax.random.key(0))
    if isinstance(state, TrainState):  # whose key may be of another implementation than JAX's default is now
        check_key(state.key)
        expected = expected._replace(key=state.key)
    if _shapes(state) != _shapes(expected):
        raise SpecError("a state to go on from must be of this config; got one of another model or optimizer")
    done, within = divmod(int(state.step), -(-count // config.batch_size))
    if within:
        raise SpecError(f"a state to go on from must be at an epoch's end; got one {within} steps into it")
    return jax.tree.map(jnp.asarray, state), done


def _shapes(tree: Any) -> Any:
    """The structure of a tree, and the shape and dtype of each leaf."""
    leaves, structure = jax.tree.flatten(tree)
    return structure, [(getattr(leaf, "shape", None), getattr(leaf, "dtype", None)) for leaf in leaves]


def as_sets(config: Config, train: Any, validation: Any) -> tuple[Examples, Examples | None]:
    """What is trained and validated on, as `as_trainable` gives it, pixels and all looked at.

    Raises:
        InputError: images or labels are not what they must be, or fewer than a batch.
    """
    train = as_trainable(train, "train")
    check_pixels(train.images)
    if validation is not None:
        validation = as_trainable(validation, "validation")
        check_pixels(validation.images)
    if config.batch_size > len(train):
        raise InputError(
            f"batch size ({config.batch_size:,}) must be at most the number of training examples "
            f"({len(train):,})"
        )
    return train, validation


def _at_step(steps: StepMetrics) -> str:
    """Where in an epoch the first number that is not finite was seen."""
    losses = np.asarray(steps.loss)
    bad = np.flatnonzero(~np.isfinite(losses))
    step = bad[0] + 1 if bad.size else losses.size
    found = f"loss {losses[bad[0]]}" if bad.size else "a parameter, or the validation loss, after it"
    return f", step {step} ({found})"


def _diverged(epoch: int, found: str, hyper: Hyper) -> str:
    decay = f" or a weight decay below {float(hyper.weight_decay):g}" if hyper.weight_decay else ""
    return (
        f"training left the finite numbers in epoch {epoch}{found}; "
        f"try a learning rate below {float(hyper.learning_rate):g}{decay}"
    )
