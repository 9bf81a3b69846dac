"""Presets: five networks from beginners' MNIST notebooks, better recipes for them, and further networks."""

from typing import NamedTuple, cast

from mnist_jax.config.deformation import Deformation
from mnist_jax.config.functions import Function
from mnist_jax.config.networks import CNN, MLP, Dtype, Network
from mnist_jax.config.optimizers import Optimizer, Schedule
from mnist_jax.config.training import Config, HyperParams, default_hyperparams
from mnist_jax.config.validation import check_choice


class Preset(NamedTuple):
    """A named training recipe.

    Attributes:
        config: network and training settings.
        validation_fraction: fraction of the training set, taken from its end, that is used for validation.
        claim: test accuracy on MNIST as the source of the recipe words it, or None.
        claimed: lowest mean accuracy that satisfies the claim, or None.
        hyperparams: hyperparameters.
    """

    config: Config
    validation_fraction: float
    claim: str | None = None
    claimed: float | None = None
    hyperparams: HyperParams = HyperParams()

    @property
    def network(self) -> Network:
        """The network."""
        return cast(Network, self.config.model)

    def hyperparams_for(self, optimizer: Optimizer | Function) -> HyperParams:
        """The recipe's hyperparameters, for any optimizer.

        Args:
            optimizer: the optimizer to train with.

        Returns:
            The hyperparameters of the recipe. For another optimizer than the recipe's, learning rate and
            weight decay are that optimizer's defaults.
        """
        if isinstance(optimizer, Optimizer) and optimizer.name == self.config.optimizer.name:
            return self.hyperparams
        return default_hyperparams(optimizer)._replace(label_smoothing=self.hyperparams.label_smoothing)


# Based on Simard et al. 2003 and Ciresan et al. 2010, and selected on validation data:
# see docs/project/experiments.md.
STRONG = Deformation(rotate=15, shear=15, scale=0.15, shift=1.5, elastic_alpha=38, elastic_sigma=5)

# Adam with its defaults, Glorot uniform initialization, batches of 32.
NOTEBOOKS: dict[str, Preset] = {
    "mlp-100": Preset(Config(MLP((100,), ("relu",)), epochs=25), 0.2, "97.27 %", 0.9727),
    "mlp-100-sigmoid": Preset(Config(MLP((100,), ("relu",), "sigmoid")), 0.0, "about 98 %", 0.975),
    "mlp-50-50-sigmoid": Preset(
        Config(MLP((50, 50), ("relu", "relu"), "sigmoid")), 0.0, "97 % or more", 0.97
    ),
    "mlp-128-64-32": Preset(
        Config(MLP((128, 64, 32), ("relu", "sigmoid", "sigmoid"))), 0.0, "about 97 %", 0.965
    ),
    # The source specifies neither epochs nor a validation set; both are chosen here.
    "mlp-128-64": Preset(Config(MLP((128, 64), ("relu", "relu"))), 0.1, "over 98 %", 0.98),
}


def _tuned(model: Network) -> Preset:
    """The best recipe found for small networks without deformation: adversarial training."""
    config = Config(model, 40, 128, schedule=Schedule("cosine"), fgsm_epsilon=0.05)
    return Preset(config, 0.0, hyperparams=HyperParams(3e-3))


def _deformed(
    model: Network,
    epochs: int = 100,
    batch_size: int = 128,
    *,
    strength: float = 0.5,
    learning_rate: float = 3e-3,
    label_smoothing: float = 0.05,
    dtype: Dtype = "float32",
) -> Preset:
    """The best recipe found with deformation; the defaults suit small networks."""
    schedule, deformation = Schedule("cosine"), STRONG.scaled(strength)
    config = Config(model, epochs, batch_size, schedule=schedule, dtype=dtype, deformation=deformation)
    return Preset(config, 0.0, hyperparams=HyperParams(learning_rate, label_smoothing=label_smoothing))


PRESETS: dict[str, Preset] = {
    **NOTEBOOKS,
    # LeCun et al. 1998, but fully connected between channels, with ReLU and softmax for tanh and RBF units.
    "lenet-5": Preset(Config(CNN((6, 16), 5, "average", (120, 84), ("same", "valid")), batch_size=128), 0.1),
    "cnn-32-64": Preset(Config(CNN((32, 64), 3, "average", (256,)), epochs=5, batch_size=128), 0.1),
    **{f"{name}-tuned": _tuned(recipe.network) for name, recipe in NOTEBOOKS.items()},
    # The smallest network needs more epochs on deformed images.
    **{
        f"{name}-deformed": _deformed(recipe.network, 250 if name == "mlp-50-50-sigmoid" else 100)
        for name, recipe in NOTEBOOKS.items()
    },
    "cnn-8-24-deformed": _deformed(
        CNN((8, 24), 5, padding=("valid", "valid")), 60, learning_rate=2e-3, label_smoothing=0.0
    ),
    "cnn-16-48-deformed": _deformed(
        CNN((16, 48), 5, dense_sizes=(128,), padding=("valid", "valid")), 54, learning_rate=2e-3
    ),
    "mlp-1024-512-adversarial": Preset(
        Config(
            MLP((1024, 512), ("relu", "relu")),
            epochs=30,
            batch_size=128,
            schedule=Schedule("cosine"),
            fgsm_epsilon=0.15,
        ),
        0.0,
    ),
    "mlp-1024-512-deformed": _deformed(
        MLP((1024, 512), ("relu", "relu")), 150, 256, strength=1, learning_rate=1e-3
    ),
    "mlp-1500-1000-500-deformed": _deformed(
        MLP((1500, 1000, 500), ("relu", "relu", "relu")),
        180,
        256,
        strength=1,
        learning_rate=1e-3,
        dtype="bfloat16",
    ),
}
DEFAULT_PRESET = "mlp-128-64"


def preset(name: str) -> Preset:
    """The preset with the given name.

    Args:
        name: a key of `PRESETS`.

    Returns:
        The preset: a config, hyperparameters and a validation fraction.

    Raises:
        SpecError: if there is no such preset.

    Examples:
        >>> from mnist_jax import preset
        >>> print(preset("lenet-5").config.model)
        convolutions 6-16, dense 400-120-84-10 (5x5, relu, average pooling, softmax)
    """
    check_choice("preset", name, tuple(PRESETS))
    return PRESETS[name]
