"""The compiled programs of training."""

import functools
from collections.abc import Callable
from typing import Any

import jax
from jax.sharding import Mesh

from mnist_jax.parallel.mesh import batch_sharding, replicated
from mnist_jax.training.start import init_state
from mnist_jax.training.step import train_epoch

# Donation reuses the old state's buffers, so callers' arrays must never be passed to it.
_train_epoch = jax.jit(train_epoch, static_argnums=0, donate_argnums=2)


@functools.cache
def start_program() -> Any:
    """Returns `init_state`, jitted.

    It runs once, so that most of LLVM's optimizations cost more time than they save: a third of the time to
    compile on the CPU, and the same bits.
    """
    options = {"xla_backend_optimization_level": 1} if jax.default_backend() == "cpu" else None
    return jax.jit(init_state, static_argnums=0, compiler_options=options)


def epoch_program(mesh: Mesh | None) -> Any:
    """Returns `train_epoch`, jitted; for a mesh, its batches shared out over it, the state copied to all."""
    donated = () if _checks_numbers() else 2
    if mesh is None:
        return _train_epoch if donated else jax.jit(train_epoch, static_argnums=0)
    epoch = functools.partial(train_epoch, batch_sharding=batch_sharding(mesh))
    return jax.jit(epoch, static_argnums=0, donate_argnums=donated, out_shardings=replicated(mesh))


def compiled(program: Any, *arguments: Any, static: tuple[Any, ...] = ()) -> Callable[..., Any]:
    """Compiles a jitted function for its static arguments and the shapes of the others.

    Under `jax.disable_jit`, and where JAX checks for NaN, the function is returned uncompiled.

    Args:
        program: a jitted function.
        arguments: values or shapes of its dynamic arguments.
        static: its static arguments, which come first.

    Returns:
        A function of the dynamic arguments.
    """
    if jax.config.jax_disable_jit or _checks_numbers():
        return functools.partial(program, *static)
    executable: Callable[..., Any] = program.lower(*static, *arguments).compile()
    return executable


def _checks_numbers() -> bool:
    """Whether JAX checks for NaN: in jitted calls, which it re-runs on failure, so nothing may be donated."""
    return bool(jax.config.jax_debug_nans or jax.config.jax_debug_infs)
