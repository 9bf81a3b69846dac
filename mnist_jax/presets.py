"""Named recipes: five networks as beginners' MNIST notebooks train them, the same trained better, others."""

from typing import NamedTuple

from mnist_jax.deformations import Deformation
from mnist_jax.networks import CNN, MLP, Dtype, Network
from mnist_jax.optimizers import Optimizer, Schedule
from mnist_jax.settings import check_one_of
from mnist_jax.specs import Config, Hyper, default_hyper


class Preset(NamedTuple):
    """A named recipe.

    Attributes:
        config: network and training.
        validation_fraction: what is held out of the training set, at its end.
        claim: the accuracy on MNIST's test set that its source states, in the source's words, if any.
        claimed: the least mean accuracy with which those words would be true.
        hyper: its numbers.
    """

    config: Config
    validation_fraction: float
    claim: str | None = None
    claimed: float | None = None
    hyper: Hyper = Hyper()

    def hyper_with(self, optimizer: Optimizer) -> Hyper:
        """The recipe's numbers; with another optimiser than its own, the rate and decay of that one."""
        if optimizer.name == self.config.optimizer.name:
            return self.hyper
        return default_hyper(optimizer)._replace(label_smoothing=self.hyper.label_smoothing)


# After Simard et al. 2003 and Ciresan et al. 2010, and chosen on validation data: see bench/NOTES.md.
STRONG = Deformation(rotate=15, shear=15, scale=0.15, shift=1.5, elastic=38, smoothness=5)

# Adam at its defaults and Glorot uniform, in batches of 32.
NOTEBOOKS: dict[str, Preset] = {
    "mlp-100": Preset(Config(MLP((100,), ("relu",)), epochs=25), 0.2, "97.27 %", 0.9727),
    "mlp-100-sigmoid": Preset(Config(MLP((100,), ("relu",), "sigmoid")), 0.0, "about 98 %", 0.975),
    "mlp-50-50-sigmoid": Preset(
        Config(MLP((50, 50), ("relu", "relu"), "sigmoid")), 0.0, "97 % or more", 0.97
    ),
    "mlp-128-64-32": Preset(
        Config(MLP((128, 64, 32), ("relu", "sigmoid", "sigmoid"))), 0.0, "about 97 %", 0.965
    ),
    # Its source states neither epochs nor a validation set: both are our choice.
    "mlp-128-64": Preset(Config(MLP((128, 64), ("relu", "relu"))), 0.1, "over 98 %", 0.98),
}


def _tuned(model: Network) -> Preset:
    """The best that was found for small networks without deformation: adversarial training."""
    config = Config(model, 40, 128, schedule=Schedule("cosine"), adversarial=0.05)
    return Preset(config, 0.0, hyper=Hyper(3e-3))


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
    """The best that was found with deformation: for small networks, unless told otherwise."""
    schedule, deformation = Schedule("cosine"), STRONG.times(strength)
    config = Config(model, epochs, batch_size, schedule=schedule, dtype=dtype, deformation=deformation)
    return Preset(config, 0.0, hyper=Hyper(learning_rate, label_smoothing=label_smoothing))


PRESETS: dict[str, Preset] = {
    **NOTEBOOKS,
    # LeCun et al. 1998, with its connections complete, ReLU for its tanh and softmax for its distances.
    "lenet-5": Preset(Config(CNN((6, 16), 5, "average", (120, 84), ("same", "valid")), batch_size=128), 0.1),
    "cnn-32-64": Preset(Config(CNN((32, 64), 3, "average", (256,)), epochs=5, batch_size=128), 0.1),
    **{f"{name}-tuned": _tuned(recipe.config.model) for name, recipe in NOTEBOOKS.items()},
    # 50 and 50 units take longer to learn what deformation shows them.
    **{
        f"{name}-deformed": _deformed(recipe.config.model, 250 if name == "mlp-50-50-sigmoid" else 100)
        for name, recipe in NOTEBOOKS.items()
    },
    "cnn-8-24-deformed": _deformed(
        CNN((8, 24), 5, padding=("valid", "valid")), 60, learning_rate=2e-3, label_smoothing=0.0
    ),
    "cnn-16-48-deformed": _deformed(
        CNN((16, 48), 5, dense=(128,), padding=("valid", "valid")), 54, learning_rate=2e-3
    ),
    "mlp-1024-512-adversarial": Preset(
        Config(
            MLP((1024, 512), ("relu", "relu")),
            epochs=30,
            batch_size=128,
            schedule=Schedule("cosine"),
            adversarial=0.15,
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
    """The preset of that name.

    Raises:
        SpecError: there is none.
    """
    check_one_of("preset", name, tuple(PRESETS))
    return PRESETS[name]
