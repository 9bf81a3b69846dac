"""`mnist-jax bench`."""

from typing import Annotated

import typer


def bench(
    arguments: Annotated[
        list[str] | None,
        typer.Argument(metavar="BENCHMARK ...", help="A benchmark and its options.", show_default=False),
    ] = None,
) -> None:
    """Measure training and inference on this machine; `mnist-jax bench --help` lists the benchmarks.

    Example: mnist-jax bench throughput --preset mlp-100 --batch-size 32
    """
    from bench.__main__ import app

    raise typer.Exit(app(arguments or ["--help"], prog_name="mnist-jax bench", standalone_mode=False) or 0)
