"""The networks whose files tests make: each preset's once, and an ensemble of two kinds."""

from mnist_jax.networks import Ensemble, Spec
from mnist_jax.presets import PRESETS

NETWORKS: dict[str, Spec] = {}
for name, preset in PRESETS.items():
    if preset.config.model not in NETWORKS.values():
        NETWORKS[name] = preset.config.model
NETWORKS["ensemble"] = Ensemble((PRESETS["mlp-128-64-32"].config.model, PRESETS["lenet-5"].config.model))
