"""Configuration of a run as frozen dataclasses without JAX: networks, optimizers, training, presets."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__, ["deformation", "networks", "optimizers", "presets", "serialization", "training"]
)
