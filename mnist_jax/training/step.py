"""The training step and the epoch, as pure functions.

    train_step    updates once, from one batch
    train_epoch   shuffles, then scans `train_step` over the batches in one program

These functions neither jit nor donate, so that they can be used inside `jit`, `vmap` and `scan`; `loop` has
the Python loop around them. `config` is static. `hyperparams` is a pytree of scalars, so that one program
can train many runs. All randomness derives from the state's key and step.
"""

import functools
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.sharding import NamedSharding

from mnist_jax.augmentation.adversarial import fgsm
from mnist_jax.augmentation.deform import deform
from mnist_jax.config.input_checks import as_examples, check_config, check_params
from mnist_jax.config.networks import FlaxModel
from mnist_jax.config.optimizers import Optimizer, Schedule
from mnist_jax.config.training import Config, HyperParams
from mnist_jax.config.validation import check_positive_int
from mnist_jax.data.examples import Examples, TestSet
from mnist_jax.errors import InputError, SpecError
from mnist_jax.evaluation.metrics import example_losses
from mnist_jax.nn.flax_model import apply_in_training
from mnist_jax.nn.model import apply, to_unit_range
from mnist_jax.parallel.mesh import split_rows
from mnist_jax.training.optimizer import ema_update, learning_rate_at, make_optimizer
from mnist_jax.training.state import StepMetrics, TrainState
from mnist_jax.types import AnyArray, Array, Key, Params, Scalar


def train_step(
    config: Config, hyperparams: HyperParams, state: TrainState, batch: Examples
) -> tuple[TrainState, StepMetrics]:
    """Updates the state once, from one batch.

    Args:
        config: the run's configuration; static under `jit`.
        hyperparams: scalars, which may be traced.
        state: the state before the step.
        batch: images `[batch, 28, 28]` and labels `[batch]`.

    Returns:
        The new state, and metrics of the batch from before the update.

    Raises:
        InputError: the batch has the wrong shape or dtype, or belongs to the test set; outside `jit`, a label
            is out of range.
        SpecError: the schedule's length is unknown; an argument has the wrong type; or the state belongs to
            another network or optimizer.

    Examples:
        >>> import jax
        >>> from mnist_jax import MLP, Config, HyperParams, init_state, load, train_step
        >>> config = Config(MLP((4,), ("relu",)))
        >>> batch = load("digits").train[:8]
        >>> step = jax.jit(train_step, static_argnums=0)
        >>> state, metrics = step(config, HyperParams(), init_state(config, jax.random.key(0)), batch)
        >>> int(state.step), int(metrics.size)
        (1, 8)
    """
    batch = _check_inputs(config, state, batch)
    return _step(config, hyperparams, state, batch, _identity)


def _step(
    config: Config,
    hyperparams: HyperParams,
    state: TrainState,
    batch: Examples,
    view: Callable[[Params], Params],
    counter: Any = jnp.int32,
) -> tuple[TrainState, StepMetrics]:
    """`train_step`, with more to choose.

    Args:
        config: as there.
        hyperparams: as there.
        state: as there; its params may be stored in another layout.
        batch: as there.
        view: converts the params for `apply`.
        counter: dtype in which correct predictions are counted.
    """
    if not isinstance(hyperparams, HyperParams):
        raise SpecError(f"hyperparams must be a HyperParams; got {type(hyperparams).__name__}")

    deform_key, dropout_key = jax.random.split(_step_key(state))
    images = batch.images
    if config.deformation is not None:
        keys = jax.random.split(deform_key, len(images))
        images = jax.vmap(functools.partial(deform, config.deformation))(keys, images)

    def loss_on(params: Params, images: AnyArray) -> tuple[Scalar, tuple[Array, Params | None]]:
        if isinstance(config.model, FlaxModel):
            variables = {**params, **(state.model_state or {})}
            logits, model_state = apply_in_training(
                config.model, variables, to_unit_range(images), dropout_key
            )
        else:
            model_state = None
            logits = apply(
                config.model,
                view(params),
                images,
                dtype=config.dtype,
                dropout=config.dropout,
                key=dropout_key,
            )
        smoothing = hyperparams.label_smoothing
        losses = example_losses(config.loss, config.model.output, logits, batch.labels, smoothing)
        predictions = logits.argmax(axis=-1).astype(jnp.int32)
        correct = (predictions == jnp.asarray(batch.labels, jnp.int32)).sum(dtype=counter)
        return losses.mean(), (correct, model_state)

    adversarial = None
    if config.fgsm_epsilon:
        adversarial = fgsm(lambda pixels: loss_on(state.params, pixels)[0], config.fgsm_epsilon, images)

    def loss_of(params: Params) -> tuple[Scalar, tuple[Array, Params | None]]:
        loss, aux = loss_on(params, images)
        if adversarial is not None:
            loss = (loss + loss_on(params, adversarial)[0]) / 2
        return loss, aux

    (loss, (correct, model_state)), grads = jax.value_and_grad(loss_of, has_aux=True)(state.params)
    rate = learning_rate_at(config, hyperparams, state.step)
    with jax.numpy_dtype_promotion("standard"):  # optax relies on implicit promotion
        updates, opt_state = make_optimizer(config, rate, hyperparams.weight_decay).update(
            grads, state.opt_state, state.params
        )
    params, ema_params, step = optax.apply_updates(state.params, updates), state.ema_params, state.step + 1
    if config.ema_decay is not None and ema_params is not None:
        ema_params = ema_update(config.ema_decay, ema_params, params, step)
    metrics = StepMetrics(loss, correct.astype(jnp.int32), jnp.int32(batch.labels.shape[0]))
    return TrainState(params, opt_state, step, state.key, ema_params, model_state, state.memories), metrics


def _step_key(state: TrainState) -> Key:
    """Derives a step's key; the largest index separates it from the epochs' shuffling keys."""
    return jax.random.fold_in(jax.random.fold_in(state.key, 2**32 - 1), state.step)


def train_epoch(
    config: Config,
    hyperparams: HyperParams,
    state: TrainState,
    train: Examples,
    *,
    batch_sharding: NamedSharding | None = None,
) -> tuple[TrainState, StepMetrics]:
    """Makes one pass over `train` in a fresh random order; a last, smaller batch is trained on too.

    Args:
        config: the run's configuration; static under `jit`.
        hyperparams: scalars, which may be traced.
        state: the state at the end of the previous epoch.
        train: images `[n, 28, 28]` and labels `[n]`.
        batch_sharding: how the rows of each batch are shared out over devices, such as
            `NamedSharding(mesh, PartitionSpec("data"))`; static under `jit`. Rows that they do not divide
            evenly stay whole on each device.

    Returns:
        The new state, and metrics with one entry per step.

    Raises:
        InputError: the examples have the wrong shape or dtype, or are the test set; outside `jit`, a label is
            out of range.
        SpecError: an argument has the wrong type; the state belongs to another network or optimizer; or all
            epochs together have 2**31 steps or more.

    Examples:
        >>> import jax
        >>> from mnist_jax import MLP, Config, HyperParams, init_state, load, train_epoch
        >>> config = Config(MLP((4,), ("relu",)), batch_size=32)
        >>> state = init_state(config, jax.random.key(0))
        >>> run_epoch = jax.jit(train_epoch, static_argnums=0)
        >>> state, metrics = run_epoch(config, HyperParams(), state, load("digits").train[:40])
        >>> metrics.size.tolist()
        [32, 8]
    """
    train = _check_inputs(config, state, train)
    count = len(train)
    steps, rest = divmod(count, config.batch_size)
    epoch = state.step // (steps + bool(rest))
    total_steps = check_positive_int("epochs times steps in one", config.epochs * (steps + bool(rest)))
    if isinstance(config.schedule, Schedule) and config.schedule.follows_run:
        config = replace(config, schedule=replace(config.schedule, steps=total_steps))
    order = jax.random.permutation(jax.random.fold_in(state.key, epoch), count)
    images, labels = jnp.asarray(train.images), jnp.asarray(train.labels)
    # Other optimizers and modules may treat rows and columns differently.
    ours = isinstance(config.optimizer, Optimizer) and not isinstance(config.model, FlaxModel)
    view = _transpose if ours and config.dtype == "float32" else _identity

    # Devices add up gradients, loss and count in one all-reduce if all are float32, which counts to 2**24.
    counter = jnp.int32 if batch_sharding is None else jnp.float32

    def body(state: TrainState, rows: Array) -> tuple[TrainState, StepMetrics]:
        rows = split_rows(rows, batch_sharding)
        return _step(config, hyperparams, state, Examples(images[rows], labels[rows]), view, counter)

    full = order[: count - rest].reshape(steps, config.batch_size)
    state, metrics = jax.lax.scan(body, view(state), full)
    if rest:
        state, last = body(state, order[count - rest :])
        metrics = jax.tree.map(jnp.append, metrics, last)
    return view(state), metrics


def as_trainable(config: Config, examples: Any, name: str = "examples") -> Examples:
    """Returns validated examples that may be trained on.

    Raises:
        InputError: as `as_examples`, or they are the test set.
    """
    if isinstance(examples, TestSet):
        raise InputError(f"{name} must be Examples; got the held-out test set, which is for evaluate alone")
    return Examples(*as_examples(examples, num_classes=config.model.num_classes))


def _check_inputs(config: Config, state: Any, examples: Any) -> Examples:
    """Returns the examples after the checks that are possible while tracing, too."""
    check_config(config)
    trainable = as_trainable(config, examples)
    if not isinstance(state, TrainState):
        raise SpecError(f"state must be a TrainState; got {type(state).__name__}; init_state makes one")
    check_params(config.model, state.current_params)
    if (config.ema_decay is None) != (state.ema_params is None):
        raise SpecError(
            "a state must have an average exactly where its config has an ema_decay; use init_state"
        )
    expected: Any = jax.eval_shape(make_optimizer(config, 0.0, 0.0).init, state.params)
    structure: Any = jax.tree.structure(expected)
    if structure != jax.tree.structure(state.opt_state):
        name = config.optimizer
        raise SpecError(
            f"a state must be one of its config's optimizer, {name}; got another's; use init_state"
        )
    return trainable


def _transpose[Tree: (TrainState, Params)](tree: Tree) -> Tree:
    """Transposes every matrix; its own inverse.

    Inside an epoch kernels are `[out, in]`: XLA's matmuls on the CPU are 1.6 times as fast that way, and XLA
    fuses each step's transpose into the matmul. In bfloat16 it does not help: see `nn.matmul`.
    """
    transposed: Tree = jax.tree.map(lambda leaf: leaf.T if leaf.ndim == 2 else leaf, tree)
    return transposed


def _identity[Tree: (TrainState, Params)](tree: Tree) -> Tree:
    return tree
