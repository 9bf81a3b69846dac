"""How `fit` runs callbacks, and keeps the memories of those that have one."""

from collections.abc import Callable, Sequence
from typing import Any, Protocol, runtime_checkable

from mnist_jax.errors import SpecError
from mnist_jax.training.callbacks.best import EarlyStopping
from mnist_jax.training.records import EpochRecord
from mnist_jax.training.state import TrainState


@runtime_checkable
class CallbackWithMemory(Protocol):
    """A callback whose memory is part of the state; its class name is its key there."""

    def init(self, state: TrainState) -> Any:
        """Returns the memory before the first epoch, a pytree of arrays."""

    def update(self, memory: Any, record: EpochRecord, state: TrainState) -> tuple[Any, bool]:
        """Returns the memory after an epoch, and whether to stop."""


Callback = Callable[[EpochRecord, TrainState], bool | None] | CallbackWithMemory


def as_callbacks(callback: Any) -> tuple[Any, ...]:
    """Returns one callback, several or None as a tuple.

    Raises:
        SpecError: one is neither a function nor has a memory, or two of a kind have a memory.
    """
    given = () if callback is None else callback if isinstance(callback, list | tuple) else (callback,)
    for each in given:
        if isinstance(each, type) or not (callable(each) or isinstance(each, CallbackWithMemory)):
            raise SpecError(f"callback must be a function of a record and a state, or several; got {each!r}")
    names = [_name(each) for each in given if isinstance(each, CallbackWithMemory)]
    if len(set(names)) < len(names):
        raise SpecError(f"callbacks with a memory must be of different classes; got {', '.join(names)}")
    return tuple(given)


def with_memories(callbacks: Sequence[Any], state: TrainState) -> TrainState:
    """Returns a state with a memory for each callback that has one; memories that are there stay.

    Raises:
        SpecError: the state has the memory of a callback that is not given.
    """
    kept = dict(state.memories or {})
    own = {_name(each): each for each in callbacks if isinstance(each, CallbackWithMemory)}
    if odd := sorted(set(kept) - set(own)):
        raise SpecError(f"a state with the memory of {odd[0]} must go on with it: callback={odd[0]}(...)")
    memories = {name: kept[name] if name in kept else each.init(state) for name, each in own.items()}
    return state._replace(memories=memories or None)


def is_finished(callbacks: Sequence[Any], state: TrainState, epoch: int) -> bool:
    """Whether early stopping has stopped the run before."""
    for each in callbacks:
        memory = (state.memories or {}).get(_name(each))
        if isinstance(each, EarlyStopping) and memory is not None and each.is_over(memory, epoch):
            return True
    return False


def after_epoch(callbacks: Sequence[Any], record: EpochRecord, state: TrainState) -> tuple[TrainState, bool]:
    """Calls all callbacks, those with a memory first; returns the new state, and whether to stop."""
    stop, memories = False, dict(state.memories or {})
    for each in callbacks:
        if isinstance(each, CallbackWithMemory):
            memories[_name(each)], stopping = each.update(memories[_name(each)], record, state)
            stop |= stopping
    state = state._replace(memories=memories or None)
    for each in callbacks:
        if not isinstance(each, CallbackWithMemory):
            stop |= bool(each(record, state))
    return state, stop


def _name(callback: Any) -> str:
    return type(callback).__name__
