"""One training as a program of its own: from the start of the process to the accuracy on the held-out set.

    python -m bench.sprint RECIPE SEED test|validation DATASET [DATA_DIR]

All of it, the start, every epoch and the evaluation, is one compiled program made of the library's functions.
"""

import json
import sys
from typing import NamedTuple

from mnist_jax import CNN, MLP, Config, Hyper, Network
from mnist_jax.optimizers import Schedule


class Recipe(NamedTuple):
    """What to train, and the mean accuracy that it was chosen for."""

    target: float
    config: Config
    learning_rate: float


def _cosine(spec: Network, epochs: int, batch_size: int) -> Config:
    return Config(spec, epochs, batch_size, schedule=Schedule("cosine"))


# Chosen on the last 10,000 training images (`--validation`) before any test image was looked at.
RECIPES = {
    "97": Recipe(0.97, _cosine(MLP((100,), ("relu",)), 2, 64), 5e-3),
    "98": Recipe(0.98, _cosine(MLP((256,), ("relu",)), 4, 64), 5e-3),
    "99": Recipe(0.99, _cosine(CNN((6, 16), 5, "max", (120, 84), ("same", "valid")), 4, 64), 4e-3),
}


def main(name: str, seed: str, held_out: str, dataset: str, *data_dir: str) -> float:
    """The accuracy on the test set, or on the validation set, which is then not trained on."""
    import jax

    from mnist_jax import Examples, HeldOut, evaluate, init_state, load, train_epoch

    recipe = RECIPES[name]
    config, hyper = recipe.config, Hyper(recipe.learning_rate)
    data = load(dataset, *data_dir, validation_fraction=1 / 6 if held_out == "validation" else 0.0)
    held = data.validation
    unseen = data.test if held is None else HeldOut(held.images, held.labels)

    @jax.jit
    def run(key: jax.Array, train: Examples, unseen: HeldOut) -> jax.Array:
        state = init_state(config, key)
        state, _ = jax.lax.scan(
            lambda state, _: train_epoch(config, hyper, state, train), state, length=config.epochs
        )
        return evaluate(config.model, state.eval_params, unseen).accuracy

    return float(run(jax.random.key(int(seed)), data.train, unseen))


if __name__ == "__main__":
    print(json.dumps({"accuracy": main(*sys.argv[1:])}))  # noqa: T201
