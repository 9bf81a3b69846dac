"""Packages whose public names, listed in `__init__.pyi`, are imported on first use."""

from collections.abc import Callable
from typing import Any

import lazy_loader

from mnist_jax.errors import NotInstalledError


def attach(
    package: str, file: str, public_name: str
) -> tuple[Callable[[str], Any], Callable[[], list[str]], list[str]]:
    """The `__getattr__`, `__dir__` and `__all__` of a package with a stub.

    `__getattr__` raises `NotInstalledError` where a name's module requires a package that is not installed.

    Args:
        package: its `__name__`.
        file: its `__file__`; the stub is beside it.
        public_name: what users call it, for errors.
    """
    get, names, every = lazy_loader.attach_stub(package, file)

    def get_or_explain(name: str) -> Any:
        try:
            return get(name)
        except ModuleNotFoundError as error:
            raise NotInstalledError(f"{public_name}.{name}", error) from None

    return get_or_explain, names, every
