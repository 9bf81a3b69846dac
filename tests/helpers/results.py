"""Results of a run directory."""

from pathlib import Path

from mnist_jax.runs import directory, results
from mnist_jax.training import checkpoint


def results_of(folder: Path) -> results.Results:
    """The results of a finished run, as commands read them."""
    run = directory.read(folder)
    params, _ = checkpoint.load_params(folder / directory.CHECKPOINT)
    return results.read(folder, params, run.config.model)
