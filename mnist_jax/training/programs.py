"""The compiled programs of training."""

import functools
from collections.abc import Callable
from typing import Any, cast

import jax
from jax.sharding import Mesh

from mnist_jax._utils.kept_programs import KEPT_PROGRAMS
from mnist_jax.config.training import Config
from mnist_jax.parallel.mesh import batch_sharding, replicated
from mnist_jax.training.start import init_state
from mnist_jax.training.step import train_epoch


@functools.lru_cache(KEPT_PROGRAMS)
def start_program(config: Config) -> Any:
    """Returns `init_state` of a config, jitted.

    It runs once, so that most of LLVM's optimizations cost more time than they save: a third of the time to
    compile on the CPU, and the same bits.
    """
    options = {"xla_backend_optimization_level": 1} if jax.default_backend() == "cpu" else None
    return jax.jit(functools.partial(init_state, config), compiler_options=options)


def epoch_program(config: Config, mesh: Mesh | None) -> Any:
    """Returns `train_epoch` of a config, jitted; for a mesh, its batches shared out, the state copied to all.

    The state is donated, its buffers reused, so that callers' arrays must never be passed to it.
    """
    return _epoch_program(config, mesh, donated=() if _checks_numbers() else 1)


@functools.lru_cache(KEPT_PROGRAMS)
def _epoch_program(config: Config, mesh: Mesh | None, *, donated: int | tuple[()]) -> Any:
    if mesh is None:
        return jax.jit(functools.partial(train_epoch, config), donate_argnums=donated)
    epoch = functools.partial(train_epoch, config, batch_sharding=batch_sharding(mesh))
    return jax.jit(epoch, donate_argnums=donated, out_shardings=replicated(mesh))


def compiled(program: Any, *arguments: Any) -> Callable[..., Any]:
    """Compiles a jitted function for the shapes of its arguments.

    Under `jax.disable_jit`, and where JAX checks for NaN, the function is returned uncompiled.

    Args:
        program: a jitted function.
        arguments: values or shapes of its arguments.
    """
    if jax.config.jax_disable_jit or _checks_numbers():
        return cast(Callable[..., Any], program)
    return cast(Callable[..., Any], program.lower(*arguments).compile())


def _checks_numbers() -> bool:
    """Whether JAX checks for NaN: in jitted calls, which it re-runs on failure, so nothing may be donated."""
    return bool(jax.config.jax_debug_nans or jax.config.jax_debug_infs)
