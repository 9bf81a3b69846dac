"""Evaluation of trained networks: metrics, robustness and inspection."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__, ["evaluate", "inspection", "metrics", "robustness"]
)
