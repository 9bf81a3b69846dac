"""How training works, from one step to an epoch.

    init_state    parameters, the optimiser's state, a step count and a key, from one key
    train_step    one batch: gradient of the loss, one update
    train_epoch   one pass: shuffle, then `train_step` in a `lax.scan`, all in one program

These are pure functions that neither jit nor donate, to be used inside `jit`, `vmap` or `scan`; `loop`
has the plain Python loop around them. `config` is static; `hyper` is a pytree of scalars, so that one
program can train many runs. Randomness comes from position alone: the state's key and its step say what
happens next.
"""

import functools
from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Float32, Int32

from mnist_jax.adversarial import fast_gradient_sign
from mnist_jax.augment import deform
from mnist_jax.checks import as_examples, check_config, check_params
from mnist_jax.errors import InputError, SpecError
from mnist_jax.metrics import cross_entropy
from mnist_jax.models import apply, check_key, init
from mnist_jax.settings import check_whole
from mnist_jax.specs import Config, Hyper
from mnist_jax.types import AnyArray, Array, Examples, HeldOut, Key, Params, Scalar
from mnist_jax.updates import averaged, optimizer, scheduled_rate


class TrainState(NamedTuple):
    """All that training needs to go on.

    Attributes:
        params: the network's.
        opt_state: the optimiser's, such as Adam's moments.
        step: updates made so far, int32.
        key: the run's own; never changes.
        average: of the parameters, where the config asks for one.
    """

    params: Params
    opt_state: optax.OptState
    step: Int32[Array, ""]
    key: Key
    average: Params | None = None

    @property
    def eval_params(self) -> Params:
        """The parameters to score and export: the average where there is one."""
        return self.params if self.average is None else self.average


class StepMetrics(NamedTuple):
    """What a step saw before its update; an epoch has one entry per step.

    Attributes:
        loss: the batch's mean; with adversarial images, the mean over them too.
        correct: how many of the batch were right, of the images themselves.
        size: examples in the batch.
    """

    loss: Float32[Array, "*steps"]
    correct: Int32[Array, "*steps"]
    size: Int32[Array, "*steps"]


def init_state(config: Config, key: Key) -> TrainState:
    """The state before the first step.

    Raises:
        SpecError: the config is none, or the key is not one typed key.
    """
    check_config(config)
    check_key(key)
    init_key, run_key = jax.random.split(key)
    params = init(config.model, init_key)
    opt_state = optimizer(config, 0.0, 0.0).init(params)
    average = None if config.ema_decay is None else jax.tree.map(jnp.copy, params)
    return TrainState(params, opt_state, jnp.zeros((), jnp.int32), run_key, average)


def train_step(
    config: Config, hyper: Hyper, state: TrainState, batch: Examples
) -> tuple[TrainState, StepMetrics]:
    """One update from one batch.

    Raises:
        InputError: shapes or dtypes of the batch do not fit, or it is of the held-out test set;
            outside `jit`: a label is out of its range.
        SpecError: the schedule is one that must know its steps; config, hyper or state is none; or the state
            is one of another network, or of an optimiser that keeps other things.
    """
    batch = _checked(config, state, batch)
    return _step(config, hyper, state, batch, _as_it_is)


def _step(
    config: Config, hyper: Hyper, state: TrainState, batch: Examples, view: Callable[[Params], Params]
) -> tuple[TrainState, StepMetrics]:
    """`train_step` on a state whose parameters are kept in another layout, which `view` undoes."""
    if not isinstance(hyper, Hyper):
        raise SpecError(f"hyper must be a Hyper; got {type(hyper).__name__}")

    deform_key, dropout_key = jax.random.split(_step_key(state))
    images = batch.images
    if config.deformation is not None:
        keys = jax.random.split(deform_key, len(images))
        images = jax.vmap(functools.partial(deform, config.deformation))(keys, images)

    def loss_on(params: Params, images: AnyArray) -> tuple[Scalar, Array]:
        logits = apply(
            config.model,
            view(params),
            images,
            dtype=config.dtype,
            dropout=config.dropout,
            key=dropout_key,
        )
        losses = cross_entropy(config.model.output, logits, batch.labels, hyper.label_smoothing)
        answers = logits.argmax(axis=-1).astype(jnp.int32)
        correct = (answers == jnp.asarray(batch.labels, jnp.int32)).sum(dtype=jnp.int32)
        return losses.mean(), correct

    harder = None
    if config.adversarial:
        now = functools.partial(loss_on, state.params)
        harder = fast_gradient_sign(lambda pixels: now(pixels)[0], config.adversarial, images)

    def loss_of(params: Params) -> tuple[Scalar, Array]:
        loss, correct = loss_on(params, images)
        if harder is not None:
            loss = (loss + loss_on(params, harder)[0]) / 2
        return loss, correct

    (loss, correct), grads = jax.value_and_grad(loss_of, has_aux=True)(state.params)
    rate = scheduled_rate(config, hyper, state.step)
    with jax.numpy_dtype_promotion("standard"):  # optax's arithmetic relies on it; ours states its dtypes
        updates, opt_state = optimizer(config, rate, hyper.weight_decay).update(
            grads, state.opt_state, state.params
        )
    params, average, step = optax.apply_updates(state.params, updates), state.average, state.step + 1
    if config.ema_decay is not None and average is not None:
        average = averaged(config.ema_decay, average, params, step)
    metrics = StepMetrics(loss, correct, jnp.int32(batch.labels.shape[0]))
    return TrainState(params, opt_state, step, state.key, average), metrics


def _step_key(state: TrainState) -> Key:
    """The key of a step's own randomness; epochs, which shuffle, have those of the lower numbers."""
    return jax.random.fold_in(jax.random.fold_in(state.key, 2**32 - 1), state.step)


def train_epoch(
    config: Config, hyper: Hyper, state: TrainState, train: Examples
) -> tuple[TrainState, StepMetrics]:
    """One pass over `train` in a new order; the last batch may be smaller, and counts all the same.

    Raises:
        InputError: shapes or dtypes do not fit, or they are the held-out test set; outside `jit`: a label
            is out of its range.
        SpecError: config, hyper or state is none; the state is one of another network, or of an optimiser
            that keeps other things; or there are 2**31 steps or more in all epochs.
    """
    train = _checked(config, state, train)
    count = len(train)
    steps, rest = divmod(count, config.batch_size)
    epoch = state.step // (steps + bool(rest))
    whole_run = check_whole("epochs times steps in one", config.epochs * (steps + bool(rest)))
    if config.schedule.follows_run:
        config = replace(config, schedule=replace(config.schedule, steps=whole_run))
    order = jax.random.permutation(jax.random.fold_in(state.key, epoch), count)
    images, labels = jnp.asarray(train.images), jnp.asarray(train.labels)
    view = _transposed if config.dtype == "float32" else _as_it_is

    def body(state: TrainState, rows: Array) -> tuple[TrainState, StepMetrics]:
        return _step(config, hyper, state, Examples(images[rows], labels[rows]), view)

    full = order[: count - rest].reshape(steps, config.batch_size)
    state, metrics = jax.lax.scan(body, view(state), full)
    if rest:
        state, last = body(state, order[count - rest :])
        metrics = jax.tree.map(jnp.append, metrics, last)
    return view(state), metrics


def as_trainable(examples: Any, name: str = "examples") -> Examples:
    """Labelled images to learn from, as `as_examples` gives them.

    Raises:
        InputError: as `as_examples`; or they are the held-out test set.
    """
    if isinstance(examples, HeldOut):
        raise InputError(f"{name} must be Examples; got the held-out test set, which is for evaluate alone")
    return Examples(*as_examples(examples))


def _checked(config: Config, state: Any, examples: Any) -> Examples:
    """The examples, once all fits that can be seen while tracing, too."""
    check_config(config)
    found = as_trainable(examples)
    if not isinstance(state, TrainState):
        raise SpecError(f"state must be a TrainState; got {type(state).__name__}; init_state makes one")
    check_params(config.model, state.params)
    if (config.ema_decay is None) != (state.average is None):
        raise SpecError(
            "a state must have an average exactly where its config has an ema_decay; use init_state"
        )
    kept: Any = jax.eval_shape(optimizer(config, 0.0, 0.0).init, state.params)
    ours: Any = jax.tree.structure(kept)
    if ours != jax.tree.structure(state.opt_state):
        name = config.optimizer
        raise SpecError(
            f"a state must be one of its config's optimizer, {name}; got another's; use init_state"
        )
    return found


def _transposed[Tree: (TrainState, Params)](tree: Tree) -> Tree:
    """Every matrix the other way round: twice is the tree itself.

    Inside an epoch kernels are `[out, in]`. XLA's products on the CPU are 1.6 times as fast that way, and
    the transposition in each step costs nothing: it becomes part of the product. In bfloat16 it is better
    not to: see `products`.
    """
    turned: Tree = jax.tree.map(lambda leaf: leaf.T if leaf.ndim == 2 else leaf, tree)
    return turned


def _as_it_is[Tree: (TrainState, Params)](tree: Tree) -> Tree:
    return tree
