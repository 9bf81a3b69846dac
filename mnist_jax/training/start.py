"""The state before the first step, from a key or from given parameters."""

from typing import Any

import jax
import jax.numpy as jnp

from mnist_jax.config.input_checks import check_config, check_params
from mnist_jax.config.networks import FlaxModel
from mnist_jax.config.training import Config
from mnist_jax.nn.flax_model import split_variables
from mnist_jax.nn.keys import check_key
from mnist_jax.nn.model import init
from mnist_jax.training.callbacks.running import as_callbacks, with_memories
from mnist_jax.training.optimizer import make_optimizer
from mnist_jax.training.state import TrainState
from mnist_jax.types import Key, Params


def init_state(config: Config, key: Key) -> TrainState:
    """Creates the state before the first step.

    Args:
        config: the run's configuration.
        key: one typed key; initializes the network and seeds the run.

    Raises:
        SpecError: `config` is not a Config, or `key` is not one typed key.

    Examples:
        >>> import jax
        >>> from mnist_jax import MLP, Config, init_state
        >>> state = init_state(Config(MLP((4,), ("relu",))), jax.random.key(0))
        >>> int(state.step), state.params["Dense_0"]["kernel"].shape
        (0, (784, 4))
    """
    check_config(config)
    check_key(key)
    init_key, run_key = jax.random.split(key)
    return _state_of(config, init(config.model, init_key), run_key)


def state_from_params(config: Config, params: Params, key: Key) -> TrainState:
    """Creates the state before the first step from given parameters; the key seeds the run.

    Raises:
        SpecError: as `init_state`, or the parameters are those of another network.
    """
    check_config(config)
    check_key(key)
    check_params(config.model, params)
    copied = jax.tree.map(lambda leaf: jnp.array(leaf, jnp.float32), params)
    return _state_of(config, copied, jax.random.split(key)[1])


def _state_of(config: Config, params: Params, run_key: Key) -> TrainState:
    model_state = None
    if isinstance(config.model, FlaxModel):
        params, model_state = split_variables(params)
    opt_state = make_optimizer(config, 0.0, 0.0).init(params)
    ema_params = None if config.ema_decay is None else jax.tree.map(jnp.copy, params)
    return TrainState(params, opt_state, jnp.zeros((), jnp.int32), run_key, ema_params, model_state)


def abstract_state(config: Config, callback: Any = None) -> TrainState:
    """Returns the shapes and dtypes of a config's state as `jax.ShapeDtypeStruct`s, without computing it.

    Args:
        config: the run's configuration.
        callback: as for `fit`; the state has the memories of those that have one.
    """
    callbacks = as_callbacks(callback)

    def start(key: Key) -> TrainState:
        return with_memories(callbacks, init_state(config, key))

    state: TrainState = jax.eval_shape(start, jax.random.key(0))
    return state
