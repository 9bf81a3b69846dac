"""Networks to export in tests: that of each preset once, and an ensemble of an MLP and a CNN."""

import pytest

from mnist_jax.config.networks import Ensemble, Spec
from mnist_jax.config.presets import PRESETS

NETWORKS: dict[str, Spec] = {}
for name, preset in PRESETS.items():
    if preset.config.model not in NETWORKS.values():
        NETWORKS[name] = preset.config.model
NETWORKS["ensemble"] = Ensemble((PRESETS["mlp-128-64-32"].config.model, PRESETS["lenet-5"].config.model))
LARGE = {"cnn-8-24-deformed", "cnn-16-48-deformed", "mlp-1024-512-adversarial", "mlp-1500-1000-500-deformed"}
# The large ones differ from others in their sizes only.
LARGE_AT_NIGHT = [
    pytest.param(name, marks=[pytest.mark.nightly] if name in LARGE else []) for name in NETWORKS
]
