"""Many runs at once: the functions of `train`, mapped over keys and over numbers that may be swept."""

import functools
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from mnist_jax.checks import check_config
from mnist_jax.errors import SpecError
from mnist_jax.evaluation import evaluate
from mnist_jax.loop import EpochRecord, as_sets, compiled, record_of
from mnist_jax.models import activations
from mnist_jax.networks import CNN, IMAGE_SHAPE
from mnist_jax.settings import check_whole
from mnist_jax.specs import Config, Hyper, check_hyper, default_hyper
from mnist_jax.train import init_state, train_epoch
from mnist_jax.types import Examples, Key, Params

MEMORY = 2**30  # bytes that runs trained at once may need
# On a CPU, more at once are no faster, nor are networks that keep it busy alone: convolutional ones, and
# those with so many parameters times examples in a step. See bench/NOTES.md.
AT_ONCE = 16
BUSY = 2**27


class Sweep(NamedTuple):
    """Finished runs, in the order in which they were asked for.

    Attributes:
        params: of all networks: as one network's, with a leading axis `[runs]`. NumPy arrays.
        histories: a history for each run. Where a run left the finite numbers, so does its history.
    """

    params: Params
    histories: list[list[EpochRecord]]

    def member(self, index: int) -> Params:
        """One network's parameters."""
        found: Params = _of_run(index, self.params)
        return found


@contextmanager
def _undisturbed() -> Iterator[None]:
    """Without the caller's guard, since our transfers are meant; one that diverges ends no other run."""
    with jax.transfer_guard("allow"), jax.debug_nans(False), jax.debug_infs(False):
        yield


@_undisturbed()
def fit_many(
    config: Config,
    train: Examples,
    validation: Examples | None = None,
    *,
    keys: Key,
    hyper: Hyper | None = None,
    at_once: int | None = None,
    callback: Callable[[int, Sequence[EpochRecord]], bool | None] | None = None,
) -> Sweep:
    """Trains many runs of one config, so many at once as one program.

    A run is what `fit` makes of its key and its numbers, up to rounding: products for several networks are
    summed in another order. After 20 steps parameters differ by 1e-5 at most; by the end they are different
    networks, equally good.

    Args:
        config: what all runs have in common.
        train: what to learn from.
        validation: scored after each epoch.
        keys: typed keys `[runs]`, one for each run, such as `jax.random.split(key, 16)`.
        hyper: the numbers of the runs: each one scalar for all, or `[runs]`.
        at_once: how many are trained together; by default what suits the device and its memory.
        callback: called after each epoch of a group with the place of its first run and a record of each. The
            group's training stops where it returns True; groups after it are trained all the same.

    Raises:
        SpecError: keys are not one-dimensional; numbers do not fit them or are out of range; `callback` is no
            function.
        InputError: as `fit`.
    """
    check_config(config)
    count = _count(keys)
    hyper = _spread(default_hyper(config.optimizer) if hyper is None else hyper, count)
    train, validation = as_sets(config, train, validation)
    if callback is not None and not callable(callback):
        raise SpecError(f"callback must be a function of a place and records; got {callback!r}")
    group = min(count, suitable(config) if at_once is None else check_whole("at_once", at_once))
    train, validation = jax.device_put((train, validation))

    mapped = jax.vmap if group > 1 else _map_one
    start_all = jax.jit(mapped(functools.partial(init_state, config), (0,)))
    run_epoch = jax.jit(mapped(functools.partial(train_epoch, config), (0, 0, None)), donate_argnums=1)
    score = jax.jit(mapped(functools.partial(evaluate, config.model), (0, None)))

    parameters, histories, run = [], [], None
    for first in range(0, count, group):
        # The last group is as large as the others, so that one program does; what is too much is left out.
        rows = np.minimum(np.arange(first, first + group), count - 1)
        kept = min(group, count - first)
        numbers, state = jax.tree.map(lambda leaf, rows=rows: leaf[rows], hyper), start_all(keys[rows])
        history: list[list[EpochRecord]] = [[] for _ in range(kept)]
        if run is None:  # before the first epoch, whose seconds are of training alone
            run = compiled(run_epoch, numbers, state, train)
        for epoch in range(1, config.epochs + 1):
            start = time.perf_counter()
            state, steps = jax.block_until_ready(run(numbers, state, train))
            seconds = (time.perf_counter() - start) / kept
            scores = None if validation is None else score(state.eval_params, validation)
            records = [record_of(epoch, _of_run(i, steps), _of_run(i, scores), seconds) for i in range(kept)]
            for so_far, record in zip(history, records, strict=True):
                so_far.append(record)
            if callback is not None and callback(first, records):
                break
        parameters.append(jax.tree.map(lambda leaf, kept=kept: np.asarray(leaf[:kept]), state.eval_params))
        histories += history
    return Sweep(jax.tree.map(lambda *leaves: np.concatenate(leaves), *parameters), histories)


def suitable(config: Config) -> int:
    """How many runs to train at once.

    As many as fit `MEMORY`; on a CPU at most `AT_ONCE`, and one by one what keeps it busy alone.
    """
    busy = isinstance(config.model, CNN) or config.model.parameters * config.batch_size > BUSY
    on_cpu = jax.devices()[0].platform == "cpu"
    most = (1 if busy else AT_ONCE) if on_cpu else MEMORY
    return max(1, min(most, MEMORY // memory(config)))


def memory(config: Config) -> int:
    """The bytes that one run needs while it trains, from above: XLA counts up to eight times less.

    The state, its successor and gradients; and 16 times a batch and what hidden layers make of it, which
    deforming and convolving come close to.
    """
    state = jax.eval_shape(functools.partial(init_state, config), jax.random.key(0))
    batch = jax.ShapeDtypeStruct((config.batch_size, *IMAGE_SHAPE), jnp.float32)
    hidden = jax.eval_shape(functools.partial(activations, config.model), state.params, batch)
    kept, made = (sum(leaf.size for leaf in jax.tree.leaves(tree)) for tree in (state, (batch, hidden)))
    return 4 * int(3 * kept + 16 * made)


def _map_one(function: Callable[..., Any], in_axes: tuple[int | None, ...]) -> Callable[..., Any]:
    """`jax.vmap` over an axis of one, without its products of many matrices, which are slower."""

    def mapped(*arguments: Any) -> Any:
        alone = [
            argument if axis is None else _of_run(0, argument)
            for argument, axis in zip(arguments, in_axes, strict=True)
        ]
        return jax.tree.map(lambda leaf: leaf[None], function(*alone))

    return mapped


def _of_run(run: int, tree: Any) -> Any:
    """One run's part of what all have."""
    return jax.tree.map(lambda leaf: leaf[run], tree)


def _count(keys: Any) -> int:
    typed = isinstance(keys, jax.Array) and jnp.issubdtype(keys.dtype, jax.dtypes.prng_key)
    if not typed or keys.ndim != 1 or not len(keys):
        came = f"{keys.dtype}{list(keys.shape)}" if isinstance(keys, jax.Array) else repr(keys)
        raise SpecError(f"keys must be typed keys [runs], such as jax.random.split(key, 16); got {came}")
    return len(keys)


def _spread(hyper: Hyper, count: int) -> Hyper:
    """The numbers of each run, float32 `[runs]`."""
    if not isinstance(hyper, Hyper):
        raise SpecError(f"hyper must be a Hyper; got {hyper!r}")
    columns = []
    for name, value in hyper._asdict().items():
        try:
            numbers = np.asarray(value, float)
        except (TypeError, ValueError):
            raise SpecError(
                f"{name} must be one number, or one for each run [{count}]; got {value!r}"
            ) from None
        if numbers.shape not in ((), (count,)):
            raise SpecError(
                f"{name} must be one number, or one for each run [{count}]; got {list(numbers.shape)}"
            )
        columns.append(np.broadcast_to(numbers, count))
    for row in zip(*columns, strict=True):
        check_hyper(Hyper(*(number.item() for number in row)))
    return Hyper(*(jnp.asarray(column, jnp.float32) for column in columns))
