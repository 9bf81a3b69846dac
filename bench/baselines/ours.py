"""mnist-jax: one compiled program per epoch."""

import protocol
import jax
import numpy as np

import mnist_jax

x, y, x_test, y_test, network, batch_size = protocol.load()
spec = protocol.spec(network)
config = mnist_jax.Config(spec, batch_size=batch_size)
train = jax.device_put(mnist_jax.Examples(x, y))
hyperparams = jax.tree.map(jax.numpy.float32, mnist_jax.HyperParams())
state = mnist_jax.init_state(config, jax.random.key(0))
probabilities = jax.jit(mnist_jax.predict, static_argnums=0)
run = jax.jit(mnist_jax.train_epoch, static_argnums=0, donate_argnums=2)


def epoch() -> None:
    global state
    state, _ = jax.block_until_ready(run(config, hyperparams, state, train))


def predict(images: np.ndarray) -> np.ndarray:
    return np.asarray(probabilities(spec, state.params, images))


protocol.serve({"jax": jax.__version__, "numpy": np.__version__}, epoch, predict, x_test, y_test)
