"""Networks to export in tests: that of each preset once, and an ensemble of an MLP and a CNN."""

from mnist_jax.config.networks import Ensemble, Spec
from mnist_jax.config.presets import PRESETS

NETWORKS: dict[str, Spec] = {}
for name, preset in PRESETS.items():
    if preset.config.model not in NETWORKS.values():
        NETWORKS[name] = preset.config.model
NETWORKS["ensemble"] = Ensemble((PRESETS["mlp-128-64-32"].config.model, PRESETS["lenet-5"].config.model))
