"""Digit classifiers trained in JAX as pure functions, and exported as verified ONNX files.

    import jax, mnist_jax

    data = mnist_jax.load("digits")
    config = mnist_jax.Config(mnist_jax.MLP((128, 64), ("relu", "relu")), epochs=20)
    run = mnist_jax.fit(config, data.train, data.validation, key=jax.random.key(0))
    print(mnist_jax.evaluate(config.model, run.params, data.test).accuracy)

Imports are lazy: each public name, listed in `__init__.pyi`, is imported on first use.
"""

from typing import Any

import lazy_loader

from mnist_jax.errors import NotInstalledError

_lazy_getattr, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)


def __getattr__(name: str) -> Any:
    """Import a public name on first use.

    Raises:
        NotInstalledError: if its module requires a package that is not installed.
        AttributeError: if there is no such name.
    """
    try:
        return _lazy_getattr(name)
    except ModuleNotFoundError as error:
        raise NotInstalledError(f"{__name__}.{name}", error) from None
