"""JAX as in its tutorials: a jitted step in a Python loop, with Flax and optax."""

import protocol
import flax.linen as nn
import jax
import numpy as np
import optax

x, y, x_test, y_test, spec, batch_size = protocol.load()
x = x[..., None].astype(np.float32) / 255
y = y.astype(np.int32)


class Network(nn.Module):
    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        glorot = nn.initializers.glorot_uniform()
        pool = nn.avg_pool if spec.pool == "average" else nn.max_pool
        for out, padding in zip(spec.channels, spec.padding):
            size = (spec.kernel, spec.kernel)
            x = nn.relu(nn.Conv(out, size, padding=padding.upper(), kernel_init=glorot)(x))
            x = pool(x, (2, 2), (2, 2))
        x = x.reshape(len(x), -1)
        for width in spec.dense:
            x = nn.relu(nn.Dense(width, kernel_init=glorot)(x))
        return nn.Dense(10, kernel_init=glorot)(x)


network, adam = Network(), optax.adam(1e-3, eps=1e-7)
params = network.init(jax.random.key(0), x[:1])
opt_state = adam.init(params)
rng = np.random.default_rng(0)


@jax.jit
def step(params: object, opt_state: object, images: jax.Array, labels: jax.Array) -> tuple:
    def loss_of(params: object) -> jax.Array:
        logits = network.apply(params, images)
        return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()

    loss, grads = jax.value_and_grad(loss_of)(params)
    updates, opt_state = adam.update(grads, opt_state)
    return optax.apply_updates(params, updates), opt_state, loss


def epoch() -> None:
    global params, opt_state
    order = rng.permutation(len(x))
    for start in range(0, len(x), batch_size):
        rows = order[start : start + batch_size]
        params, opt_state, _ = step(params, opt_state, x[rows], y[rows])
    jax.block_until_ready(params)


@jax.jit
def probabilities(params: object, images: jax.Array) -> jax.Array:
    return nn.softmax(network.apply(params, images))


def predict(images: np.ndarray) -> np.ndarray:
    return np.asarray(probabilities(params, images[..., None].astype(np.float32) / 255))


protocol.serve({"jax": jax.__version__, "optax": optax.__version__}, epoch, predict, x_test, y_test)
