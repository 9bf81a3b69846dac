"""A whole training run: the Python loop around `train_epoch` that compiles, times, validates and records."""

import time
import warnings
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Bool

from mnist_jax.config.functions import Function
from mnist_jax.config.input_checks import check_config
from mnist_jax.config.networks import FlaxModel
from mnist_jax.config.pixel_checks import check_pixels, look_inverted
from mnist_jax.config.training import (
    Config,
    HyperParams,
    check_effective,
    check_hyperparams,
    default_hyperparams,
)
from mnist_jax.data.examples import Examples
from mnist_jax.errors import DivergenceError, InputError, SpecError
from mnist_jax.evaluation.evaluate import Evaluation, evaluate
from mnist_jax.nn.keys import check_key
from mnist_jax.parallel.mesh import Devices, any_process, as_mesh, replicate
from mnist_jax.training.callbacks.running import (
    Callback,
    after_epoch,
    as_callbacks,
    is_finished,
    with_memories,
)
from mnist_jax.training.programs import compiled, epoch_program, start_program
from mnist_jax.training.records import EpochRecord, FitResult, describe
from mnist_jax.training.start import abstract_state, init_state, state_from_params
from mnist_jax.training.state import StepMetrics, TrainState
from mnist_jax.training.step import as_trainable
from mnist_jax.types import Array, Key, Params

INVERTED = (
    "training images should be white on black, as MNIST is; these have bright borders; "
    "a network trained on them reads only others like them: 255 - images inverts them"
)


@jax.jit
def _all_finite(params: Params) -> Bool[Array, ""]:
    return jnp.stack([jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(params)]).all()


@jax.transfer_guard("allow")  # transfers are intended here, whatever the caller's guard
def fit(
    config: Config,
    train: Examples,
    validation: Examples | None = None,
    *,
    key: Key | None = None,
    state: TrainState | None = None,
    params: Params | None = None,
    hyperparams: HyperParams | None = None,
    callback: Callback | Sequence[Callback] | None = None,
    devices: Devices | None = None,
    verbose: bool = False,
) -> FitResult:
    """Trains until `config.epochs` are done, from scratch or from a state.

    A run that is stopped and resumed from its state on as many devices is bit-identical to an uninterrupted
    one.

    Args:
        config: the network and how to train it.
        train: the training set; copied to the device once.
        validation: evaluated after each epoch.
        key: one typed key, the run's only source of randomness. The same key on the same machine gives the
            same bits.
        state: resumes from this state, in place of `key`; must be from the end of an epoch.
        params: starts from these parameters, with a `key` for all other randomness, such as to fine-tune.
        hyperparams: scalars; defaults to the optimizer's own.
        callback: one or several, called after each epoch with its record and the state, which they may keep.
            Training stops if one returns True. `mnist_jax.callbacks` has some.
        devices: a list such as `jax.devices()`, or a mesh, over which each batch is shared out, of several
            processes too; None for JAX's default device. The result is that of one device, but for rounding.
        verbose: whether to print a line for each epoch; of several processes the first does.

    Returns:
        The last state, the history of the epochs trained by this call, the compile time, and the loss of
        each step.

    Raises:
        SpecError: a hyperparameter is out of range; a callback is none; both or neither of `key` and `state`
            are given; or state or parameters belong to another config, or a state is not at the end of an
            epoch.
        InputError: images or labels are invalid, or fewer than one batch.
        DivergenceError: the loss or a parameter became NaN or infinite. It holds the last finite state.

    Examples:
        >>> import jax
        >>> from mnist_jax import MLP, Config, fit, load
        >>> config = Config(MLP((4,), ("relu",)), epochs=2)
        >>> result = fit(config, load("digits").train[:64], key=jax.random.key(0))
        >>> [record.epoch for record in result.history], int(result.state.step)
        ([1, 2], 4)
    """
    check_config(config)
    hyperparams = default_hyperparams(config.optimizer) if hyperparams is None else hyperparams
    check_hyperparams(hyperparams)
    check_effective(config, hyperparams)
    train, validation = as_sets(config, train, validation)
    callbacks = as_callbacks(callback)
    hyperparams = jax.tree.map(jnp.float32, hyperparams)
    mesh = as_mesh(devices)
    _warn_of_whole_batches(config.batch_size, mesh)
    train, validation, hyperparams = replicate((train, validation, hyperparams), mesh)
    state, done = _start(config, key, state, params, callbacks, len(train))
    state = replicate(state, mesh)
    start = time.perf_counter()
    run_epoch = compiled(epoch_program(config, mesh), hyperparams, state._replace(memories=None), train)
    compile_seconds = time.perf_counter() - start

    history: list[EpochRecord] = []
    losses: list[np.ndarray] = []
    last = done if is_finished(callbacks, state, done) else config.epochs
    for epoch in range(done + 1, last + 1):
        memories, before = state.memories, state
        donated = jax.tree.map(jnp.copy, state._replace(memories=None))  # a copy survives donation
        start = time.perf_counter()
        try:
            state, steps = jax.block_until_ready(run_epoch(hyperparams, donated, train))
            seconds = time.perf_counter() - start
            scores = (
                None
                if validation is None
                else evaluate(config.model, state.current_params, validation, loss=config.loss, devices=mesh)
            )
        except FloatingPointError as error:  # raised by JAX under jax_debug_nans
            where = f" ({str(error).partition('\n')[0]})"
            raise DivergenceError(
                _divergence_message(config, epoch, where, hyperparams), before, history
            ) from error
        finite = _all_finite(state.params) and (scores is None or np.isfinite(scores.loss))
        if not (finite and np.isfinite(steps.loss).all()):
            where = _first_bad_step(steps)
            raise DivergenceError(_divergence_message(config, epoch, where, hyperparams), before, history)
        record = record_of(epoch, steps, scores, seconds)
        history.append(record)
        losses.append(np.asarray(steps.loss))
        state, stop = after_epoch(callbacks, record, state._replace(memories=memories))
        stop = any_process(stop, mesh)
        if verbose and jax.process_index() == 0:
            print(f"epoch {epoch}/{config.epochs}: {describe(record)}, {seconds:.2f} s")  # noqa: T201
        if stop:
            break
    return FitResult(state, history, compile_seconds, np.concatenate([np.zeros(0, np.float32), *losses]))


def record_of(epoch: int, steps: StepMetrics, scores: Evaluation | None, seconds: float) -> EpochRecord:
    """Summarizes an epoch from its step metrics, its validation scores and its wall time in seconds."""
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


def _start(
    config: Config,
    key: Key | None,
    state: TrainState | None,
    params: Params | None,
    callbacks: Sequence[Any],
    count: int,
) -> tuple[TrainState, int]:
    """Returns the state to start from, and the number of epochs already done."""
    if state is None and key is not None:
        start = _first_state(config, key) if params is None else state_from_params(config, params, key)
        return with_memories(callbacks, start), 0
    if state is None or key is not None or params is not None:
        raise SpecError(
            "fit takes either a key, to train from scratch or from params, or a state, to go on from"
        )
    expected = abstract_state(config)
    if isinstance(state, TrainState):
        state = with_memories(callbacks, state)
        expected = expected._replace(memories=state.memories)
    if isinstance(state, TrainState):  # its key may have another PRNG implementation than the default
        check_key(state.key)
        expected = expected._replace(key=state.key)
    if _shapes(state) != _shapes(expected):
        raise SpecError("a state to go on from must be of this config; got one of another model or optimizer")
    done, within = divmod(int(state.step), -(-count // config.batch_size))
    if within:
        raise SpecError(f"a state to go on from must be at an epoch's end; got one {within} steps into it")
    return jax.tree.map(jnp.asarray, state), done


def _first_state(config: Config, key: Key) -> TrainState:
    """`init_state` as one program, which compiles faster than many small ones, to the same bits.

    A Flax module of the user's own is not known to have the same bits in one program.
    """
    check_key(key)
    if isinstance(config.model, FlaxModel):
        return init_state(config, key)
    state: TrainState = start_program(config)(key)
    return state


def _shapes(tree: Any) -> Any:
    """Returns a tree's structure, and the shape and dtype of each leaf."""
    leaves, structure = jax.tree.flatten(tree)
    return structure, [(getattr(leaf, "shape", None), getattr(leaf, "dtype", None)) for leaf in leaves]


def as_sets(config: Config, train: Any, validation: Any) -> tuple[Examples, Examples | None]:
    """Validates the training and the validation set, including pixel ranges.

    Raises:
        InputError: images or labels are invalid, or there are fewer than one batch.
    """
    train = as_trainable(config, train, "train")
    check_pixels(train.images)
    if look_inverted(train.images):
        warnings.warn(INVERTED, stacklevel=3)
    if validation is not None:
        validation = as_trainable(config, validation, "validation")
        check_pixels(validation.images)
    if config.batch_size > len(train):
        raise InputError(
            f"batch size ({config.batch_size:,}) must be at most the number of training examples "
            f"({len(train):,})"
        )
    return train, validation


def _warn_of_whole_batches(batch_size: int, mesh: Mesh | None) -> None:
    """Says once if no batch can be shared out evenly."""
    if mesh is None or not batch_size % mesh.size:
        return
    below, above = (batch_size // mesh.size * mesh.size, -(-batch_size // mesh.size) * mesh.size)
    nearest = f"{below:,} or {above:,}" if below else f"{above:,}"
    warnings.warn(
        f"batch size {batch_size:,} should be a multiple of the {mesh.size} devices; as it is none, each of "
        f"them computes whole batches; the nearest are {nearest}",
        stacklevel=3,
    )


def _first_bad_step(steps: StepMetrics) -> str:
    """Names the first step of an epoch with a value that is not finite."""
    losses = np.asarray(steps.loss)
    bad = np.flatnonzero(~np.isfinite(losses))
    step = bad[0] + 1 if bad.size else losses.size
    what = f"loss {losses[bad[0]]}" if bad.size else "a parameter, or the validation loss, after it"
    return f", step {step} ({what})"


def _divergence_message(config: Config, epoch: int, where: str, hyperparams: HyperParams) -> str:
    rate = f"a learning rate below {float(hyperparams.learning_rate):g}"
    if isinstance(config.schedule, Function):
        rate = f"lower learning rates than {config.schedule} gives"
    decay = (
        f" or a weight decay below {float(hyperparams.weight_decay):g}" if hyperparams.weight_decay else ""
    )
    return (
        f"loss and parameters must stay finite; training diverged in epoch {epoch}{where}; try {rate}{decay}"
    )
