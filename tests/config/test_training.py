import json
import math
from collections.abc import Callable

import pytest

from mnist_jax.config.networks import CNN, MLP
from mnist_jax.config.optimizers import Optimizer
from mnist_jax.config.presets import DEFAULT_PRESET, NOTEBOOKS, PRESETS, Preset, preset
from mnist_jax.config.serialization import from_json, to_json
from mnist_jax.config.training import Config, HyperParams, check_hyperparams
from mnist_jax.errors import SpecError

# Computed by hand: inputs x outputs + outputs for each layer.
COUNTS = {
    "mlp-100": 78_400 + 100 + 1_000 + 10,
    "mlp-100-sigmoid": 78_400 + 100 + 1_000 + 10,
    "mlp-50-50-sigmoid": 39_200 + 50 + 2_500 + 50 + 500 + 10,
    "mlp-128-64-32": 100_352 + 128 + 8_192 + 64 + 2_048 + 32 + 320 + 10,
    "mlp-128-64": 100_352 + 128 + 8_192 + 64 + 640 + 10,
    "lenet-5": 150 + 6 + 2_400 + 16 + 48_000 + 120 + 10_080 + 84 + 840 + 10,
    "cnn-32-64": 288 + 32 + 18_432 + 64 + 802_816 + 256 + 2_560 + 10,
    "cnn-8-24-deformed": 200 + 8 + 4_800 + 24 + 3_840 + 10,
    "cnn-16-48-deformed": 400 + 16 + 19_200 + 48 + 98_304 + 128 + 1_280 + 10,
    "mlp-1024-512-adversarial": 802_816 + 1_024 + 524_288 + 512 + 5_120 + 10,
    "mlp-1024-512-deformed": 802_816 + 1_024 + 524_288 + 512 + 5_120 + 10,
    "mlp-1500-1000-500-deformed": 1_176_000 + 1_500 + 1_500_000 + 1_000 + 500_000 + 500 + 5_000 + 10,
}


@pytest.mark.parametrize(("name", "count"), COUNTS.items())
def test_presets_have_the_parameter_counts_computed_by_hand(name: str, count: int) -> None:
    assert preset(name).config.model.num_params == count


def test_tuned_and_deformed_presets_use_the_networks_of_the_notebooks() -> None:
    for name in NOTEBOOKS:
        for kind in ("tuned", "deformed"):
            variant = PRESETS[f"{name}-{kind}"]
            assert variant.config.model == PRESETS[name].config.model
            assert (variant.validation_fraction, variant.claim) == (0, None)
            assert (variant.config.deformation is not None) == (kind == "deformed")
            assert (variant.config.fgsm_epsilon > 0) == (kind == "tuned")


def test_another_optimizer_uses_its_own_defaults_and_the_recipes_label_smoothing() -> None:
    config = Config(MLP((), ()), optimizer=Optimizer("adamw"))
    recipe = Preset(config, 0.0, hyperparams=HyperParams(3e-3, 0.5, 0.1))
    assert recipe.hyperparams_for(Optimizer("adamw", {"b1": 0.8})) == recipe.hyperparams
    assert recipe.hyperparams_for(Optimizer("sgd")) == (1e-2, 0.0, recipe.hyperparams.label_smoothing)


def test_the_five_notebook_presets_match_their_sources() -> None:
    rows = {
        name: (
            p.config.model.hidden_sizes,
            p.config.model.activations,
            p.config.model.output,
            p.config.epochs,
        )
        for name, p in PRESETS.items()
        if p.claim
    }
    assert rows == {
        "mlp-100": ((100,), ("relu",), "softmax", 25),
        "mlp-100-sigmoid": ((100,), ("relu",), "sigmoid", 10),
        "mlp-50-50-sigmoid": ((50, 50), ("relu", "relu"), "sigmoid", 10),
        "mlp-128-64-32": ((128, 64, 32), ("relu", "sigmoid", "sigmoid"), "softmax", 10),
        "mlp-128-64": ((128, 64), ("relu", "relu"), "softmax", 10),
    }
    assert PRESETS["mlp-100"].validation_fraction == 0.2
    assert {p.config.batch_size for p in PRESETS.values() if p.claim} == {32}
    assert {str(p.config.optimizer) for p in PRESETS.values() if p.claim} == {"adam"}
    assert dict(Config(MLP((), ())).optimizer.options) == {"b1": 0.9, "b2": 0.999, "eps": 1e-7}
    assert DEFAULT_PRESET == "mlp-128-64"


def test_specs_are_hashable_and_equal_by_value() -> None:
    assert hash(MLP((3,), ("relu",))) == hash(MLP([3], ["relu"]))
    assert Config(MLP((), ())) == Config(MLP((), ()))
    assert hash(CNN((3,), padding=("same",))) == hash(CNN([3], dense_sizes=[]))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: MLP((0,), ("relu",)), "a hidden layer size must be a whole number of at least 1; got 0"),
        (
            lambda: MLP((True,), ("relu",)),
            "a hidden layer size must be a whole number of at least 1; got True",
        ),
        (lambda: MLP(100, ("relu",)), "hidden_sizes must be a tuple with one entry per layer; got 100"),
        (
            lambda: MLP((3,), ("relu6",)),
            "activation must be one of relu, sigmoid, tanh, gelu, .*; got 'relu6'",
        ),
        (lambda: MLP((3, 3), ("relu",)), "one entry per hidden layer; got 2 sizes and 1 activations"),
        (lambda: MLP((), (), "argmax"), "output must be one of softmax, sigmoid; got 'argmax'"),
        (lambda: MLP((), (), kernel_init="zeros"), "kernel_init must be one of glorot_uniform, he_normal"),
        (
            lambda: Config(MLP((), ()), dtype="float16"),
            "dtype must be one of float32, bfloat16; got 'float16'",
        ),
        (lambda: CNN(32), "channels must be a tuple with one entry per layer; got 32"),
        (lambda: CNN(()), "channels must have an entry for each convolution; got none; use an MLP instead"),
        (lambda: CNN((0,)), "a number of channels must be a whole number of at least 1; got 0"),
        (lambda: CNN((4,), 0), "kernel_size must be a whole number of at least 1; got 0"),
        (lambda: CNN((4,), 56), "kernel_size must be at most 55, which covers the whole image; got 56"),
        (
            lambda: CNN((4,), dense_sizes=(1.5,)),
            "a dense layer size must be a whole number of at least 1; got 1.5",
        ),
        (lambda: CNN((4,), pool="sum"), "pool must be one of average, max; got 'sum'"),
        (lambda: CNN((4,), padding=("full",)), "padding must be one of same, valid; got 'full'"),
        (lambda: CNN((4, 5), padding=("same",)), "or none at all; got 1 for 2 convolutions"),
        (
            lambda: CNN((4,), activation="relu6"),
            "activation must be one of relu, .*; got 'relu6'",
        ),
        (
            lambda: CNN((4,) * 5),
            "2x2 pixels for the pooling; got sides of 28, 14, 7, 3, 1; use fewer",
        ),
        (
            lambda: CNN((4,), 28, padding=("valid",)),
            "2x2 pixels for the pooling; got sides of 1; use",
        ),
        (lambda: Config(MLP((), ()), epochs=0), "epochs must be a whole number of at least 1; got 0"),
        (
            lambda: Config(MLP((), ()), batch_size=-1),
            "batch size must be a whole number of at least 1; got -1",
        ),
        (
            lambda: Optimizer("adam", {"eps": math.nan}),
            "adam's eps must be a number below 1, at least 0; got nan",
        ),
        (lambda: Config("mlp-100"), "model must be an MLP, a CNN or a FlaxModel; got 'mlp-100'"),
        (
            lambda: check_hyperparams(HyperParams(learning_rate=0)),
            "learning rate must be a number, above 1e-37; got 0",
        ),
        (
            lambda: check_hyperparams(HyperParams(learning_rate=math.nan)),
            "learning rate must be a number, above 1e-37; got nan",
        ),
        (
            lambda: check_hyperparams(HyperParams(learning_rate=math.inf)),
            "learning rate must be a number below .*, above 1e-37; got inf",
        ),
        (
            lambda: check_hyperparams(HyperParams(weight_decay=-1)),
            "weight decay must be a number, at least 0; got -1",
        ),
        (
            lambda: check_hyperparams(HyperParams(label_smoothing=1)),
            "label smoothing must be a number below 1, at least 0",
        ),
        (lambda: preset("mlp-1000"), "preset must be one of mlp-100, .*; got 'mlp-1000'"),
    ],
)
def test_invalid_values_raise_errors_that_name_them(make: Callable[[], object], message: str) -> None:
    with pytest.raises(SpecError, match=message):
        make()


def test_config_round_trips_through_json() -> None:
    for recipe in PRESETS.values():
        assert from_json(json.loads(json.dumps(to_json(recipe.config)))) == recipe.config


@pytest.mark.parametrize("values", [None, {}, {"model": 3}, {"model": {}}, [], {"epochs": 1}])
def test_from_json_rejects_invalid_configs(values: object) -> None:
    with pytest.raises(SpecError, match="must have the fields"):
        from_json(values)
