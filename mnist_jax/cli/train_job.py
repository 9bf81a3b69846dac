"""A training job of `mnist-jax train`, new or resumed, and what a resumed one may change."""

import shlex
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import typer

from mnist_jax.config.training import Config, HyperParams
from mnist_jax.errors import RunError, SpecError
from mnist_jax.runs import directory, pipeline, results

if TYPE_CHECKING:
    from mnist_jax.data.datasets import Dataset


COMMON = {"data", "data_dir", "checkpoint_every", "with_report", "as_json", "platform"}
RESUME_OPTIONS = COMMON | {"resume", "epochs"}
REPEAT_OPTIONS = COMMON | {"config_file", "out"}
# Options whose names differ from those of their parameters.
SPELLED = {"preset_name": "--preset", "config_file": "--config"}


class Job(NamedTuple):
    """A run, new or resumed, with its directory and its data set."""

    folder: Path
    run: directory.Run
    data: "Dataset"
    is_new: bool


def check_unfinished(folder: Path, run: directory.Run, start: pipeline.StartState, with_report: bool) -> None:
    """Checks that there is something left to do: epochs to train, or a trained network to score.

    Raises:
        RunError: all epochs are done, and scored.
    """
    done = len(start.history)
    scored = start.state is not None and results.is_scored(folder, done, start.state.eval_params)
    over = start.state is not None and pipeline.stopped_early(run, start.state, done)
    if done > run.config.epochs or ((done == run.config.epochs or over) and scored):
        hint = f"--epochs {done + 1} or more trains on"
        if run.config.follows_run:
            hint = f"its {run.config.schedule} schedule spans them; start a new run for more"
        page = f"; for its page: mnist-jax report {shlex.quote(str(folder))}" if with_report else ""
        if over:
            hint = "it stopped early; a new run with a larger --early-stopping trains longer"
        raise RunError(f"{folder} has done all its epochs ({done}); {hint}{page}")


def with_epochs(run: directory.Run, epochs: int | None) -> directory.Run:
    """Returns the run with another number of epochs, if one is given."""
    if epochs is None or epochs == run.config.epochs:
        return run
    if run.config.follows_run:
        raise SpecError(
            f"--epochs must stay {run.config.epochs}, which the run's {run.config.schedule} schedule spans; "
            f"got {epochs}; start a new run for more"
        )
    return replace(run, config=replace(run.config, epochs=epochs))


def check_only(option: str, ctx: typer.Context, allowed: set[str]) -> None:
    """Refuses options of settings that a run takes from elsewhere.

    Args:
        option: where it takes them from: `--resume` or `--config`.
        ctx: the command's context.
        allowed: the parameters that may be given.

    Raises:
        SpecError: another one was given on the command line.
    """
    for name in sorted(set(ctx.params) - allowed):
        source = ctx.get_parameter_source(name)
        if source is not None and source.name == "COMMANDLINE":
            spelled = SPELLED.get(name, f"--{name.replace('_', '-')}")
            where = {"--resume": "directory", "--config": "config"}[option]
            raise SpecError(f"{option} takes the run's settings from its {where}; leave out {spelled}")


def override[Settings: (Config, HyperParams)](settings: Settings, **changes: Any) -> Settings:
    """Returns the settings with the changes that are not None."""
    given: Any = {name: value for name, value in changes.items() if value is not None}
    return settings._replace(**given) if isinstance(settings, HyperParams) else replace(settings, **given)
