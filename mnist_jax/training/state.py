"""The training state and a step's metrics, as pytrees."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import optax
from jaxtyping import Float32, Int32

from mnist_jax.types import Array, Key, Params


class TrainState(NamedTuple):
    """The complete training state: a run that continues from it is bit-identical to an uninterrupted one.

    Attributes:
        params: the network's parameters, a nested dict of float32 arrays.
        opt_state: the optimizer's state, such as Adam's moments.
        step: number of updates so far, int32 `[]`.
        key: the run's typed PRNG key; it never changes.
        ema_params: moving average of `params` where `config.ema_decay` is set; otherwise None.
        model_state: the collections that a `FlaxModel` updates itself, such as `batch_stats`; otherwise None.
        memories: the memories of callbacks such as `KeepBest`, by their class names; None without any.

    Examples:
        >>> import jax
        >>> from mnist_jax import MLP, Config, init_state
        >>> state = init_state(Config(MLP((4,), ("relu",)), ema_decay=0.9), jax.random.key(0))
        >>> state.eval_params is state.ema_params
        True
    """

    params: Params
    opt_state: optax.OptState
    step: Int32[Array, ""]
    key: Key
    ema_params: Params | None = None
    model_state: Params | None = None
    memories: Mapping[str, Any] | None = None

    @property
    def eval_params(self) -> Params:
        """The parameters to evaluate and export: those of the best epoch where `KeepBest` keeps them."""
        kept = (self.memories or {}).get("KeepBest")
        return self.current_params if kept is None else kept.params

    @property
    def current_params(self) -> Params:
        """The parameters of the last epoch: `ema_params` if set, otherwise `params`.

        Those of a `FlaxModel` include its other collections.
        """
        params = self.params if self.ema_params is None else self.ema_params
        return params if self.model_state is None else {**params, **self.model_state}

    def __repr__(self) -> str:
        return f"TrainState(step={self.step}, params={_described(self.params)})"


class StepMetrics(NamedTuple):
    """Metrics of one step, measured before its update; `train_epoch` stacks them, one entry per step.

    Attributes:
        loss: mean loss of the batch, in nats; with `fgsm_epsilon`, the mean over adversarial copies too.
        correct: number of correct predictions, on the images without FGSM.
        size: number of examples in the batch.

    Examples:
        >>> import jax.numpy as jnp
        >>> metrics = StepMetrics(loss=jnp.float32(2.3), correct=jnp.int32(8), size=jnp.int32(32))
        >>> float(metrics.correct / metrics.size)
        0.25
    """

    loss: Float32[Array, "*steps"]
    correct: Int32[Array, "*steps"]
    size: Int32[Array, "*steps"]


def _described(params: Params) -> str:
    """The names of the outer dict, and the number of all elements."""
    count = sum(leaf.size for leaf in jax.tree.leaves(params))
    return f"{{{', '.join(params)}: {count:,} numbers}}"
