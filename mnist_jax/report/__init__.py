"""Figures and HTML pages about runs."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    ["comparison", "curves", "html", "image_grids", "plots", "report", "style"],
    {"writing": ["write_report"]},
)
