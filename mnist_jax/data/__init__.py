"""Data sets: registry, download, verification, cache and preprocessing."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    ["datasets", "examples", "preprocess", "registry"],
    {
        "custom.archives": ["from_npz"],
        "custom.arrays": ["from_arrays"],
        "custom.idx_files": ["from_idx"],
        "custom.pictures": ["from_folder"],
        "custom.tables": ["from_csv"],
    },
)
