"""Digit classifiers trained in JAX as pure functions, and exported as verified ONNX files.

    import jax, mnist_jax

    data = mnist_jax.load("digits")
    config = mnist_jax.Config(mnist_jax.MLP((128, 64), ("relu", "relu")), epochs=20)
    run = mnist_jax.fit(config, data.train, data.validation, key=jax.random.key(0))
    print(mnist_jax.evaluate(config.model, run.params, data.test).accuracy)

Imports are lazy: each public name, listed in `__init__.pyi`, is imported on first use.
"""

from mnist_jax._utils import lazy_package

__getattr__, __dir__, __all__ = lazy_package.attach(__name__, __file__, __name__)
