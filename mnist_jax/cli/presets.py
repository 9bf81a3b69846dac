"""`mnist-jax presets`."""

from mnist_jax.cli import console, options
from mnist_jax.config.presets import DEFAULT_PRESET, PRESETS
from mnist_jax.config.serialization import to_json

HEADINGS = "network", "parameters", "epochs", "batch", "deformed", "FGSM", "validation", "claimed"


def presets(as_json: options.Json = False) -> None:
    """List the presets: named networks with their training settings.

    Example: mnist-jax presets --json
    """
    if as_json:
        console.print_json(
            {
                name: {
                    **to_json(preset.config),
                    "hyperparams": preset.hyperparams._asdict(),
                    "parameters": preset.config.model.num_params,
                    "validation_fraction": preset.validation_fraction,
                    "claim": preset.claim,
                }
                for name, preset in PRESETS.items()
            }
        )
        return
    from rich.table import Column, Table

    name_column = Column("preset", no_wrap=True)
    table = Table(name_column, *HEADINGS, box=None)
    for name, preset in PRESETS.items():
        config = preset.config
        table.add_row(
            f"{name} *" if name == DEFAULT_PRESET else name,
            str(config.model),
            f"{config.model.num_params:,}",
            str(config.epochs),
            str(config.batch_size),
            "-" if config.deformation is None else "yes",
            f"{config.fgsm_epsilon:g}" if config.fgsm_epsilon else "-",
            f"{preset.validation_fraction:.0%}",
            preset.claim or "-",
        )
    out = console.results()
    out.print(table)
    out.print("\n * default")
