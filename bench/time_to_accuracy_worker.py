"""Train and evaluate one network in a process of its own, and print its accuracy.

    python -m bench.time_to_accuracy_worker RECIPE SEED test|validation DATASET [DATA_DIR]

Initialization, all epochs and the evaluation are one compiled program of the library's functions.
"""

import json
import sys
from typing import NamedTuple

from mnist_jax import CNN, MLP, Config, HyperParams, Network
from mnist_jax.config.optimizers import Schedule


class Recipe(NamedTuple):
    """A network and its training configuration for a target.

    Attributes:
        target: the mean accuracy to reach.
        config: the network and how to train it.
        learning_rate: the peak learning rate.
    """

    target: float
    config: Config
    learning_rate: float


def _cosine(spec: Network, epochs: int, batch_size: int) -> Config:
    return Config(spec, epochs, batch_size, schedule=Schedule("cosine"))


# Selected on the last 10,000 training images (`--validation`), before any use of the test set.
RECIPES = {
    "97": Recipe(0.97, _cosine(MLP((100,), ("relu",)), 2, 64), 5e-3),
    "98": Recipe(0.98, _cosine(MLP((256,), ("relu",)), 4, 64), 5e-3),
    "99": Recipe(0.99, _cosine(CNN((6, 16), 5, "max", (120, 84), ("same", "valid")), 4, 64), 4e-3),
}


def main(name: str, seed: str, held_out: str, dataset: str, *data_dir: str) -> float:
    """Trains a recipe; returns its accuracy on the test set or on a held-out validation set."""
    import jax

    from mnist_jax import Examples, TestSet, evaluate, init_state, load, train_epoch

    recipe = RECIPES[name]
    config, hyperparams = recipe.config, HyperParams(recipe.learning_rate)
    data = load(dataset, *data_dir, validation_fraction=1 / 6 if held_out == "validation" else 0.0)
    validation = data.validation
    test = data.test if validation is None else TestSet(validation.images, validation.labels)

    @jax.jit
    def run(key: jax.Array, train: Examples, test: TestSet) -> jax.Array:
        state = init_state(config, key)
        state, _ = jax.lax.scan(
            lambda state, _: train_epoch(config, hyperparams, state, train), state, length=config.epochs
        )
        return evaluate(config.model, state.eval_params, test).accuracy

    return float(run(jax.random.key(int(seed)), data.train, test))


if __name__ == "__main__":
    print(json.dumps({"accuracy": main(*sys.argv[1:])}))  # noqa: T201
