"""Networks from the command line."""

import json
from pathlib import Path
from typing import Any

import pytest
from helpers.networks import NETWORKS

from mnist_jax.cli import main
from mnist_jax.cli.network import network_from, network_options
from mnist_jax.config.networks import CNN, MLP, Ensemble, Network
from mnist_jax.config.presets import PRESETS
from mnist_jax.errors import SpecError
from mnist_jax.runs import directory

DEFAULT = PRESETS["mlp-128-64"].config.model
LENET = PRESETS["lenet-5"].config.model


def parsed(words: list[str], base: Network) -> Network:
    options: dict[str, Any] = {
        name.removeprefix("--"): int(value) if name == "--kernel" else value
        for name, value in zip(words[::2], words[1::2], strict=True)
    }
    return network_from(base, **options)


@pytest.mark.parametrize(
    "network",
    [
        *(network for network in NETWORKS.values() if not isinstance(network, Ensemble)),
        MLP(()),
        MLP((5, 4), ("mish", "gelu_exact"), "sigmoid", "he_normal"),
        CNN((3, 4), 4, "max", (7, 6), ("same", "valid"), "elu", "sigmoid", "he_normal"),
        CNN((3,), padding=("valid",)),
    ],
    ids=str,
)
def test_the_options_of_a_network_make_it_again(network: Network) -> None:
    for base in (DEFAULT, LENET, MLP(())):
        if isinstance(network, CNN) or isinstance(base, MLP):
            assert parsed(network_options(network), base) == network


@pytest.mark.parametrize(
    ("base", "options", "expected"),
    [
        (DEFAULT, {}, DEFAULT),
        (LENET, {}, LENET),
        (DEFAULT, {"hidden": "256,128,64"}, MLP((256, 128, 64))),
        (DEFAULT, {"hidden": "none"}, MLP(())),
        (DEFAULT, {"activation": "gelu"}, MLP((128, 64), "gelu")),
        (DEFAULT, {"activation": "gelu,tanh"}, MLP((128, 64), ("gelu", "tanh"))),
        (DEFAULT, {"init": "he_normal"}, MLP((128, 64), kernel_init="he_normal")),
        (DEFAULT, {"channels": "16,32", "kernel": 5, "hidden": "100"}, CNN((16, 32), 5, dense_sizes=(100,))),
        (LENET, {"channels": "6,16,32", "padding": "same"}, CNN((6, 16, 32), 5, "average", (120, 84))),
        (LENET, {"pool": "max"}, CNN((6, 16), 5, "max", (120, 84), ("same", "valid"))),
        (LENET, {"activation": "elu"}, CNN((6, 16), 5, "average", (120, 84), ("same", "valid"), "elu")),
    ],
)  # fmt: skip
def test_options_change_what_they_name(base: Network, options: Any, expected: Network) -> None:
    assert network_from(base, **options) == expected


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"hidden": "a"}, "--hidden must be whole numbers separated by commas; got 'a'"),
        ({"hidden": "10,0"}, "a hidden layer size must be a whole number of at least 1; got 0"),
        ({"kernel": 3}, "--kernel is for convolutions, whose --channels must be given; got 3"),
        ({"pool": "max"}, "--pool is for convolutions"),
        ({"activation": "gelu,tanh,relu"}, "one entry per hidden layer; got 2 sizes and 3 activations"),
        ({"activation": "swishy"}, "activation must be one of relu"),
        ({"channels": "4", "activation": "relu,tanh"}, "--activation must be one name for a CNN"),
        ({"channels": "4", "padding": "same,valid"}, "padding must have one entry for each convolution"),
        ({"channels": "4,4,4,4,4"}, "each convolution must leave at least 2x2 pixels"),
    ],
)  # fmt: skip
def test_mistakes_name_the_option(options: Any, message: str) -> None:
    with pytest.raises(SpecError, match=message):
        network_from(DEFAULT, **options)


def test_layers_of_another_number_need_an_activation() -> None:
    mixed = PRESETS["mlp-128-64-32"].config.model
    with pytest.raises(SpecError, match=r"--activation must say how 2 layers .* has relu, sigmoid, sigmoid"):
        network_from(mixed, hidden="10,10")
    assert network_from(mixed, hidden="3,2,1").activations == mixed.activations


@pytest.mark.slow
def test_commands_train_the_networks_that_they_are_given(tmp_path: Path) -> None:
    data = ["--dataset", "digits", "--epochs", "1"]
    network = ["--channels", "4,8", "--kernel", "5", "--activation", "silu"]
    assert main(["train", *data, *network, "--hidden", "16", "--out", str(tmp_path / "run")]) == 0
    expected = CNN((4, 8), 5, dense_sizes=(16,), activation="silu")
    assert directory.read(tmp_path / "run").config.model == expected
    assert main(["sweep", *data, "--hidden", "9", "--seeds", "1", "--out", str(tmp_path / "swept")]) == 0
    assert directory.read(tmp_path / "swept").config.model == MLP((9,))


@pytest.mark.slow
def test_a_search_tries_convolutional_networks(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("optuna", reason="Optuna: the extra `tune`")
    out = tmp_path / "tuned"
    arguments = ["tune", "--dataset", "digits", "--epochs", "1", "--trials", "1", "--out", str(out)]
    assert main([*arguments, "--network", "cnn", "--kernel", "3", "--activation", "elu", "--json"]) == 0
    network = directory.read(out / "run").config.model
    assert isinstance(network, CNN)
    assert (network.kernel_size, network.activation) == (3, "elu")
    settings = json.loads(capsys.readouterr().out)["search"]["settings"]
    assert "channels_0" in settings
    assert "kernel" not in settings
    (out / "run").rename(tmp_path / "elsewhere")
    assert main([*arguments, "--network", "mlp"]) == 2
    assert "has a search with network 'kind=cnn" in capsys.readouterr().err
