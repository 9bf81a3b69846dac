"""mnist-jax: an epoch in one compiled program."""

import protocol
import jax
import numpy as np

import mnist_jax

x, y, x_test, y_test, network, batch_size = protocol.load()
if network.channels:
    spec = mnist_jax.CNN(network.channels, network.kernel, network.pool, network.dense, network.padding)
else:
    spec = mnist_jax.MLP(network.dense, ("relu",) * len(network.dense))
config = mnist_jax.Config(spec, batch_size=batch_size)
train = jax.device_put(mnist_jax.Examples(x, y))
hyper = jax.tree.map(jax.numpy.float32, mnist_jax.Hyper())
state = mnist_jax.init_state(config, jax.random.key(0))
run = jax.jit(mnist_jax.train_epoch, static_argnums=0, donate_argnums=2)


def epoch() -> None:
    global state
    state, _ = jax.block_until_ready(run(config, hyper, state, train))


def score() -> float:
    return float(mnist_jax.evaluate(spec, state.params, mnist_jax.HeldOut(x_test, y_test)).accuracy)


protocol.serve({"jax": jax.__version__, "numpy": np.__version__}, epoch, score)
