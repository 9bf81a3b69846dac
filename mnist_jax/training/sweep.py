"""Population training: `init_state` and `train_epoch`, vmapped over keys and hyperparameters."""

import functools
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, PartitionSpec

from mnist_jax.config.input_checks import check_config
from mnist_jax.config.networks import CNN, IMAGE_SHAPE, FlaxModel
from mnist_jax.config.training import (
    Config,
    HyperParams,
    check_effective,
    check_hyperparams,
    default_hyperparams,
)
from mnist_jax.config.validation import check_positive_int
from mnist_jax.data.examples import Examples
from mnist_jax.errors import SpecError
from mnist_jax.evaluation.evaluate import evaluate
from mnist_jax.nn.keys import check_typed_keys
from mnist_jax.nn.model import intermediates
from mnist_jax.parallel.mesh import (
    Devices,
    any_process,
    as_mesh,
    as_numpy,
    batch_sharding,
    place,
    replicate,
)
from mnist_jax.training.loop import as_sets, record_of
from mnist_jax.training.programs import compiled
from mnist_jax.training.records import EpochRecord, describe
from mnist_jax.training.start import abstract_state, init_state
from mnist_jax.training.step import train_epoch
from mnist_jax.types import Key, Params

MEMORY = 2**30  # bytes, for all runs of a group
# On a CPU, larger groups are no faster, and networks that saturate it alone do not gain from grouping:
# convolutional ones, and those with more than BUSY parameters times batch size.
# See docs/project/experiments.md.
AT_ONCE = 16
BUSY = 2**27


class SweepResult(NamedTuple):
    """The result of `fit_many`, in the order of its keys.

    Attributes:
        params: the trained parameters: NumPy arrays with a leading axis `[runs]`.
        histories: one history per run. A diverged run has values that are not finite.

    Examples:
        >>> import numpy as np
        >>> result = SweepResult({"Dense_0": {"bias": np.zeros((3, 10))}}, histories=[[], [], []])
        >>> result.member(0)["Dense_0"]["bias"].shape
        (10,)
    """

    params: Params
    histories: list[list[EpochRecord]]

    def __repr__(self) -> str:
        last = [history[-1] for history in self.histories if history]
        shown = "; ".join(describe(record) for record in last[:3]) + "; ..." * (len(last) > 3)
        return f"SweepResult({len(self.histories)} runs, last epochs: {shown})"

    def member(self, index: int) -> Params:
        """Returns the parameters of one network."""
        params: Params = _of_run(index, self.params)
        return params


@contextmanager
def _local_settings() -> Iterator[None]:
    """Allows transfers, which are intended here, and keeps a diverging run from aborting the others."""
    with jax.transfer_guard("allow"), jax.debug_nans(False), jax.debug_infs(False):
        yield


@_local_settings()
def fit_many(
    config: Config,
    train: Examples,
    validation: Examples | None = None,
    *,
    keys: Key,
    hyperparams: HyperParams | None = None,
    group_size: int | None = None,
    callback: Callable[[int, Sequence[EpochRecord]], bool | None] | None = None,
    devices: Devices | None = None,
) -> SweepResult:
    """Trains many runs of one config, each group of runs as one vmapped program.

    Each run equals `fit` with the same key and hyperparameters up to rounding, since batched matmuls sum in
    another order: after 20 steps parameters differ by at most 1e-5; later the networks differ, but are
    equally good. With `group_size=1` they are bit-identical.

    Args:
        config: shared by all runs.
        train: the training set.
        validation: evaluated after each epoch.
        keys: typed keys `[runs]`, such as `jax.random.split(key, 16)`.
        hyperparams: each field is a scalar for all runs, or `[runs]`.
        group_size: number of runs to train together on a device; defaults to what suits it and its memory.
        callback: called after each epoch of a group with the index of its first run and one record per run.
            The group stops if it returns True; later groups are trained all the same.
        devices: a list such as `jax.devices()`, or a mesh; each trains its share of the runs, without
            communication. None for JAX's default device.

    Raises:
        SpecError: `keys` is not one-dimensional; hyperparameters do not match it or are out of range; or
            `callback` is not callable.
        InputError: images or labels are invalid, or fewer than one batch.

    Examples:
        >>> import jax
        >>> from mnist_jax import MLP, Config, HyperParams, fit_many, load
        >>> config = Config(MLP((), ()), epochs=1)
        >>> keys = jax.random.split(jax.random.key(0), 2)
        >>> rates = HyperParams(learning_rate=[1e-3, 1e-2])
        >>> result = fit_many(config, load("digits").train[:64], keys=keys, hyperparams=rates)
        >>> len(result.histories), result.params["Dense_0"]["kernel"].shape
        (2, (2, 784, 10))
    """
    check_config(config)
    check_typed_keys("keys must be typed keys [runs], such as jax.random.split(key, 16)", keys, ndim=1)
    count = len(keys)
    hyperparams = _broadcast(
        config, default_hyperparams(config.optimizer) if hyperparams is None else hyperparams, count
    )
    train, validation = as_sets(config, train, validation)
    if callback is not None and not callable(callback):
        raise SpecError(f"callback must be a function of an index and records; got {callback!r}")
    mesh = as_mesh(devices)
    number = 1 if mesh is None else mesh.size
    at_once = (
        default_group_size(config, mesh)
        if group_size is None
        else check_positive_int("group_size", group_size)
    )
    at_once = min(at_once, -(-count // number))
    group = at_once * number
    train, validation = replicate((train, validation), mesh)

    mapped = functools.partial(map_runs, mesh, at_once)
    start_all = jax.jit(mapped(functools.partial(init_state, config), (0,)))
    run_epoch = jax.jit(mapped(functools.partial(train_epoch, config), (0, 0, None)), donate_argnums=1)
    score = jax.jit(mapped(functools.partial(evaluate, config.model, loss=config.loss), (0, None)))

    parameters, histories, run = [], [], None
    for first in range(0, count, group):
        # The last group is padded to the size of the others, so that one program serves all.
        rows = np.minimum(np.arange(first, first + group), count - 1)
        kept = min(group, count - first)
        group_hyperparams, group_keys = _of_run(rows, (hyperparams, keys))
        if mesh is not None:
            group_hyperparams, group_keys = place((group_hyperparams, group_keys), batch_sharding(mesh))
        state = start_all(group_keys)
        history: list[list[EpochRecord]] = [[] for _ in range(kept)]
        if run is None:  # before the first epoch, so that its time is training time alone
            run = compiled(run_epoch, group_hyperparams, state, train)
        for epoch in range(1, config.epochs + 1):
            start = time.perf_counter()
            state, steps = jax.block_until_ready(run(group_hyperparams, state, train))
            seconds = (time.perf_counter() - start) / kept
            scores = None if validation is None else score(state.eval_params, validation)
            steps, scores = as_numpy((steps, scores))
            records = [record_of(epoch, _of_run(i, steps), _of_run(i, scores), seconds) for i in range(kept)]
            for of_run, record in zip(history, records, strict=True):
                of_run.append(record)
            if callback is not None and any_process(bool(callback(first, records)), mesh):
                break
        parameters.append(_of_run(slice(kept), as_numpy(state.eval_params)))
        histories += history
    return SweepResult(jax.tree.map(lambda *leaves: np.concatenate(leaves), *parameters), histories)


def default_group_size(config: Config, mesh: Mesh | None = None) -> int:
    """Returns how many runs of a config to train at once on a device of a mesh, or on JAX's default one.

    As many as fit `MEMORY`; on a CPU at most `AT_ONCE`, and 1 for networks that saturate it alone.
    """
    busy = isinstance(config.model, CNN | FlaxModel) or config.model.num_params * config.batch_size > BUSY
    first = jax.devices()[0] if mesh is None else mesh.devices.flat[0]
    on_cpu = first.platform == "cpu"
    most = (1 if busy else AT_ONCE) if on_cpu else MEMORY
    return max(1, min(most, MEMORY // estimate_memory(config)))


def estimate_memory(config: Config) -> int:
    """Estimates from above how many bytes one run needs while it trains; XLA counts up to 8 times less.

    It counts the state, its successor and the gradients, and 16 times the batch and its hidden activations,
    which deformation and convolutions come close to.
    """
    state = abstract_state(config)
    batch = jax.ShapeDtypeStruct((config.batch_size, *IMAGE_SHAPE), jnp.float32)
    hidden = jax.eval_shape(functools.partial(intermediates, config.model), state.eval_params, batch)
    stored, temporary = (
        sum(leaf.size for leaf in jax.tree.leaves(tree)) for tree in (state, (batch, hidden))
    )
    return 4 * int(3 * stored + 16 * temporary)


def map_runs(
    mesh: Mesh | None, at_once: int, function: Callable[..., Any], in_axes: tuple[int | None, ...]
) -> Callable[..., Any]:
    """Maps a function over runs, which the devices of a mesh share out, `at_once` on each at a time."""
    mapped = (jax.vmap if at_once > 1 else _map_one)(function, in_axes)
    if mesh is None:
        return mapped
    runs = batch_sharding(mesh).spec
    specs = tuple(PartitionSpec() if axis is None else runs for axis in in_axes)
    # Nothing is shared between devices, which JAX cannot see in a scan that starts from constants.
    shared: Callable[..., Any] = jax.shard_map(
        mapped, mesh=mesh, in_specs=specs, out_specs=runs, check_vma=False
    )
    return shared


def _map_one(function: Callable[..., Any], in_axes: tuple[int | None, ...]) -> Callable[..., Any]:
    """Maps like `jax.vmap` over an axis of size 1, without batched matmuls, which are slower."""

    def mapped(*arguments: Any) -> Any:
        unbatched = [
            argument if axis is None else _of_run(0, argument)
            for argument, axis in zip(arguments, in_axes, strict=True)
        ]
        return jax.tree.map(lambda leaf: leaf[None], function(*unbatched))

    return mapped


def _of_run(run: Any, tree: Any) -> Any:
    """Selects one run, or several, from a tree with a leading axis `[runs]`."""
    return jax.tree.map(lambda leaf: leaf[run], tree)


def _broadcast(config: Config, hyperparams: HyperParams, count: int) -> HyperParams:
    """Broadcasts every hyperparameter to float32 `[runs]`, and checks each run's."""
    if not isinstance(hyperparams, HyperParams):
        raise SpecError(f"hyperparams must be a HyperParams; got {hyperparams!r}")
    columns = []
    for name, value in hyperparams._asdict().items():
        try:
            values = np.asarray(value, float)
        except (TypeError, ValueError):
            raise SpecError(
                f"{name} must be one number, or one for each run [{count}]; got {value!r}"
            ) from None
        if values.shape not in ((), (count,)):
            raise SpecError(
                f"{name} must be one number, or one for each run [{count}]; got {list(values.shape)}"
            )
        columns.append(np.broadcast_to(values, count))
    for row in zip(*columns, strict=True):
        of_run = HyperParams(*(value.item() for value in row))
        check_hyperparams(of_run)
        check_effective(config, of_run)
    return HyperParams(*(jnp.asarray(column, jnp.float32) for column in columns))
