"""Data sets: registry, download, verification, cache and preprocessing."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__, ["datasets", "examples", "preprocess", "registry"]
)
