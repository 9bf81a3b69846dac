"""Training runs on disk: the run directory, its results, and the pipeline that writes it."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__, ["directory", "loading", "pipeline", "provenance", "results"]
)
