"""Python functions as parts of a config: an optimizer, a schedule or a loss of one's own."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from mnist_jax.config.validation import is_label
from mnist_jax.errors import SpecError


@dataclass(frozen=True)
class Function:
    """A Python function in a `Config`, which wraps functions on its own.

    Attributes:
        name: what the run's files call it; by default the function's own name.
        function: the function, hashable; None where the config was read from JSON, which cannot hold it.

    Raises:
        SpecError: if the name is not printable, or the function is not hashable.

    Examples:
        >>> import optax
        >>> from mnist_jax import MLP, Config
        >>> print(Config(MLP((16,)), optimizer=optax.adabelief).optimizer)
        optax._src.alias.adabelief
    """

    name: str
    function: Callable[..., Any] | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        if not is_label(self.name):
            raise SpecError(f"a function's name must be short and printable; got {self.name!r}")
        try:
            hash(self.function)
        except TypeError:
            raise SpecError(
                f"{self.name} must be hashable, to be part of a config; wrap it in a function"
            ) from None

    def __call__(self, *arguments: Any) -> Any:
        """Call the function.

        Raises:
            SpecError: if the config was read from JSON.
        """
        if self.function is None:
            raise SpecError(
                f"{self.name} is a Python function, which a run's config.json cannot hold; "
                "train on from Python, with fit"
            )
        return self.function(*arguments)

    def __str__(self) -> str:
        return self.name


def as_function(what: str, value: Any) -> Function:
    """Return `value` as a `Function`; `what` names it in the error.

    Raises:
        SpecError: if it is not callable.
    """
    if isinstance(value, Function):
        return value
    if not callable(value) or isinstance(value, type):
        raise SpecError(f"{what} must be a function; got {value!r}")
    inner = getattr(value, "func", value)  # of a functools.partial
    name = getattr(inner, "__qualname__", type(inner).__name__)
    module = getattr(inner, "__module__", None)
    return Function(name if module in (None, "__main__") else f"{module}.{name}", value)
