from typing import get_args

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.networks import NETWORKS
from scipy.stats import norm

from mnist_jax.config.networks import CNN, MLP, Activation, Output
from mnist_jax.config.presets import PRESETS
from mnist_jax.data.examples import Examples
from mnist_jax.errors import InputError, SpecError
from mnist_jax.evaluation.evaluate import evaluate
from mnist_jax.nn import model
from mnist_jax.nn.model import apply, init, predict

pytestmark = pytest.mark.usefixtures("strict_dtypes")

KEY = jax.random.key(0)


# Each activation, from the paper or page that defines it.
FUNCTIONS = {
    "relu": lambda x: np.maximum(x, 0),
    "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    "tanh": np.tanh,
    "gelu": lambda x: x / 2 * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3))),
    "gelu_exact": lambda x: x * norm.cdf(x),
    "elu": lambda x: np.where(x > 0, x, np.expm1(x)),
    "selu": lambda x: 1.0507009873554805 * np.where(x > 0, x, 1.6732632423543772 * np.expm1(x)),
    "silu": lambda x: x / (1 + np.exp(-x)),
    "swish": lambda x: x / (1 + np.exp(-x)),
    "leaky_relu": lambda x: np.where(x > 0, x, 0.01 * x),
    "softplus": lambda x: np.log1p(np.exp(x)),
    "hard_sigmoid": lambda x: np.clip(x / 6 + 0.5, 0, 1),
    "hard_swish": lambda x: x * np.clip(x / 6 + 0.5, 0, 1),
    "mish": lambda x: x * np.tanh(np.log1p(np.exp(x))),
}


def in_numpy(spec: MLP | CNN, params: object, images: np.ndarray) -> np.ndarray:
    """The network in NumPy, in double precision."""
    functions = FUNCTIONS
    hidden = images[..., None].astype(np.float64) / 255
    if isinstance(spec, CNN):
        pooled = {"max": np.max, "average": np.mean}[spec.pool]
        for index, padding in enumerate(spec.padding):
            layer = jax.tree.map(np.float64, params[f"Conv_{index}"])
            if padding == "same":
                width = ((spec.kernel_size - 1) // 2, spec.kernel_size // 2)
                hidden = np.pad(hidden, ((0, 0), width, width, (0, 0)))
            windows = np.lib.stride_tricks.sliding_window_view(
                hidden, (spec.kernel_size, spec.kernel_size), axis=(1, 2)
            )
            hidden = np.einsum("bxyipq,pqio->bxyo", windows, layer["kernel"]) + layer["bias"]
            hidden = functions[spec.activation](hidden)
            side = hidden.shape[1] // 2
            squares = hidden[:, : 2 * side, : 2 * side].reshape(len(images), side, 2, side, 2, -1)
            hidden = pooled(squares, axis=(2, 4))
    hidden = hidden.reshape(len(images), -1)
    for index in range(len(spec.layer_sizes) - 1):
        layer = params[f"Dense_{index}"]
        hidden = hidden @ np.asarray(layer["kernel"], np.float64) + np.asarray(layer["bias"], np.float64)
        if index < len(spec.activations):
            hidden = functions[spec.activations[index]](hidden)
    return np.asarray(hidden)


@pytest.mark.slow
@pytest.mark.parametrize("activation", get_args(Activation))
def test_mlp_and_cnn_equal_numpy(activation: Activation) -> None:
    check(MLP((20, 30), (activation, activation)))
    check(CNN((3, 4), 3, "max", (20,), activation=activation))


@pytest.mark.slow
@pytest.mark.parametrize(
    "spec",
    [
        PRESETS["lenet-5"].config.model,
        PRESETS["cnn-32-64"].config.model,
        CNN((4,), 4, "average"),  # an even kernel: one more zero after than before
        CNN(
            (4, 5, 6), 2, "max", (9, 8), ("valid", "same", "valid")
        ),  # sizes 27, 13 and 6: pooling drops rows
        CNN((3,), 27, padding=("valid",)),
    ],
    ids=str,
)
def test_convolutional_networks_equal_numpy(spec: CNN) -> None:
    check(spec)


def check(spec: MLP | CNN) -> None:
    params = jax.tree.map(lambda leaf: leaf + 0.05, init(spec, KEY))
    images = np.random.default_rng(0).integers(0, 256, (5, 28, 28), np.uint8)
    logits, expected = apply(spec, params, images), in_numpy(spec, params, images)
    assert (logits.shape, logits.dtype) == ((5, 10), jnp.float32)
    np.testing.assert_allclose(logits, expected, rtol=1e-4, atol=1e-5 * abs(expected).max() + 1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in NETWORKS if name in PRESETS])
def test_init_matches_the_spec_and_sets_biases_to_zero(name: str) -> None:
    spec = PRESETS[name].config.model
    params = init(spec, KEY)
    assert sum(leaf.size for leaf in jax.tree.leaves(params)) == spec.num_params
    for path, layer in params.items():
        assert {f"{path}/{leaf}": layer[leaf].shape for leaf in layer}.items() <= spec.param_shapes.items()
        assert not layer["bias"].any()
        *window, fan_in, fan_out = layer["kernel"].shape
        limit = np.sqrt(6 / (np.prod(window) * (fan_in + fan_out)))  # Glorot uniform
        assert abs(layer["kernel"]).max() <= limit
        np.testing.assert_allclose(layer["kernel"].std(), limit / np.sqrt(3), rtol=0.15)


def test_he_normal_has_its_standard_deviation() -> None:
    kernel = init(MLP((500,), ("relu",), kernel_init="he_normal"), KEY)["Dense_0"]["kernel"]
    np.testing.assert_allclose(kernel.std(), np.sqrt(2 / 784), rtol=0.02)


def test_uint8_and_float32_images_give_the_same_logits() -> None:
    spec = MLP((20,), ("relu",))
    params = init(spec, KEY)
    images = np.random.default_rng(0).integers(0, 256, (3, 28, 28), np.uint8)
    np.testing.assert_allclose(
        apply(spec, params, images), apply(spec, params, (images / 255).astype(np.float32)), atol=1e-6
    )


@pytest.mark.slow
@pytest.mark.parametrize("spec", [MLP((20,), ("relu",)), CNN((6,), 5, "average", (20,))], ids=str)
def test_bfloat16_affects_only_the_computation_in_layers(spec: MLP | CNN) -> None:
    params = init(spec, KEY)
    images = np.random.default_rng(0).integers(0, 256, (30, 28, 28), np.uint8)
    exact, rounded = apply(spec, params, images), apply(spec, params, images, dtype="bfloat16")
    assert rounded.dtype == jnp.float32
    error = float(abs(rounded - exact).max() / abs(exact).max())
    assert 1e-4 < error < 0.05  # 8 bits of precision
    gradient = jax.grad(lambda params: apply(spec, params, images, dtype="bfloat16").sum())(params)
    assert {leaf.dtype for leaf in jax.tree.leaves(gradient)} == {jnp.dtype(jnp.float32)}


def test_predict_gives_softmax_or_ten_sigmoids() -> None:
    images = np.random.default_rng(0).integers(0, 256, (3, 28, 28), np.uint8)
    for output in ("softmax", "sigmoid"):
        spec = MLP((20,), ("relu",), output)
        params = init(spec, KEY)
        logits = np.asarray(apply(spec, params, images), np.float64)
        exponentials = np.exp(logits)
        softmax = exponentials / exponentials.sum(-1, keepdims=True)
        expected = softmax if output == "softmax" else 1 / (1 + 1 / exponentials)
        np.testing.assert_allclose(predict(spec, params, images), expected, rtol=1e-5)


@pytest.mark.parametrize("count", [1, 300, 1000])
@pytest.mark.parametrize("output", ["softmax", "sigmoid"])
def test_nan_is_not_hidden(output: Output, count: int) -> None:
    """Compiled with a softmax, a product with NaN can be a number on the CPU, from 512 rows on."""
    spec = MLP((100,), "relu", output)
    params = init(spec, KEY)
    params["Dense_0"]["kernel"] = params["Dense_0"]["kernel"].at[3, 5].set(jnp.nan)
    images = np.random.default_rng(0).integers(0, 256, (count, 28, 28), np.uint8)
    assert np.isnan(predict(spec, params, images)).all()
    assert np.isnan(jax.jit(predict, static_argnums=0)(spec, params, images)).all()
    examples = Examples(images, np.zeros(count, np.int32))
    assert np.isnan(evaluate(spec, params, examples).loss)


@pytest.mark.parametrize("count", [0, 1, 2, 3, 4, 10])
def test_predict_computes_in_chunks_of_one_size(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model, "CHUNK_SIZE", 4)
    sizes = []
    program_of = model._program
    monkeypatch.setattr(
        model,
        "_program",
        lambda spec: lambda params, some: sizes.append(len(some)) or program_of(spec)(params, some),
    )
    images = np.random.default_rng(0).integers(0, 256, (count, 28, 28), np.uint8)
    spec = MLP((20,), ("relu",))
    params = init(spec, KEY)
    expected = jax.nn.softmax(apply(spec, params, images))
    np.testing.assert_allclose(predict(spec, params, images), expected, atol=1e-6)
    np.testing.assert_allclose(predict(spec, params, jnp.asarray(images)), expected, atol=1e-6)
    assert sizes == 2 * {0: [], 1: [1], 2: [2], 3: [4], 4: [4], 10: [4, 4, 4]}[count]
    np.testing.assert_allclose(jax.jit(predict, static_argnums=0)(spec, params, images), expected, atol=1e-6)


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (np.zeros((28, 28), np.uint8), r"shape \[batch, 28, 28\]; got shape \(28, 28\); add the batch axis"),
        (np.zeros((2, 28, 28, 1), np.uint8), r"got shape \(2, 28, 28, 1\); drop the channel axis"),
        (np.zeros((2, 784), np.uint8), r"got shape \(2, 784\); reshape to \(-1, 28, 28\)"),
        (np.zeros((2, 28, 28), np.int32), r"uint8 \(0 to 255\) or float32 \(0 to 1\); got int32"),
    ],
)
@pytest.mark.usefixtures("unchecked")
def test_wrong_shapes_and_dtypes_raise_during_tracing(images: np.ndarray, message: str) -> None:
    spec = MLP((), ())
    with pytest.raises(InputError, match=message):
        jax.eval_shape(lambda images: apply(spec, init(spec, KEY), images), images)


def test_dropout_drops_its_fraction_and_keeps_the_mean() -> None:
    spec = MLP((4000,), ("relu",))
    params = jax.tree.map(jnp.zeros_like, init(spec, jax.random.key(0)))
    params["Dense_0"]["bias"] += 1.0  # every hidden unit outputs 1
    params["Dense_1"]["kernel"] += 1 / 4000  # every logit is their mean
    image = np.zeros((1, 28, 28), np.uint8)
    assert float(apply(spec, params, image)[0, 0]) == pytest.approx(1, abs=1e-4)
    keys = jax.random.split(jax.random.key(0), 20)
    means = np.array([apply(spec, params, image, dropout=0.3, key=key)[0, 0] for key in keys])
    assert means.mean() == pytest.approx(1, abs=0.01)
    assert means.std() == pytest.approx(np.sqrt(0.3 / 0.7 / 4000), rel=0.5)


def test_dropout_needs_a_key() -> None:
    spec = MLP((4,), ("relu",))
    params = init(spec, jax.random.key(0))
    with pytest.raises(SpecError, match=r"key must be one typed key, .*; got None"):
        apply(spec, params, np.zeros((1, 28, 28), np.uint8), dropout=0.5)
