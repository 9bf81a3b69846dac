"""Training: steps, epochs, whole runs and sweeps."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__, ["checkpoint", "loop", "optimizer", "records", "state", "step", "sweep"]
)
