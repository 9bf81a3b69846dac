"""Named recipes: the five networks that a beginner's MNIST notebook usually shows."""

from typing import NamedTuple

from mnist_jax.errors import SpecError
from mnist_jax.specs import MLP, Config


class Preset(NamedTuple):
    """A named recipe.

    Attributes:
        config: network and training.
        validation_fraction: what is held out of the training set, at its end.
        claim: the accuracy on MNIST's test set that its source states, in the source's words.
        claimed: the least mean accuracy with which those words would be true.
    """

    config: Config
    validation_fraction: float
    claim: str
    claimed: float


# All: Adam at its defaults, batches of 32, Glorot uniform.
PRESETS: dict[str, Preset] = {
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
DEFAULT_PRESET = "mlp-128-64"


def preset(name: str) -> Preset:
    """The preset of that name.

    Raises:
        SpecError: there is none.
    """
    if name not in PRESETS:
        raise SpecError(f"preset must be one of {', '.join(PRESETS)}; got {name!r}")
    return PRESETS[name]
