"""A training job of `mnist-jax train`, new or resumed, and what a resumed one may change."""

import shlex
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import typer

from mnist_jax._utils.process_setup import start_jax
from mnist_jax.cli import datasets, options, report
from mnist_jax.cli.parallel import Group
from mnist_jax.config.training import Config, HyperParams, check_fraction, check_hyperparams
from mnist_jax.errors import RunError, SpecError
from mnist_jax.runs import directory, locking, pipeline, results

if TYPE_CHECKING:
    from mnist_jax.data.custom.source import DataSource
    from mnist_jax.data.datasets import Dataset


PARALLEL = {"devices", "distributed", "coordinator", "processes", "process_id"}
PARALLEL |= {"heartbeat_timeout", "startup_timeout"}
COMMON = {"data", "data_dir", "checkpoint_every", "with_report", "as_json", "platform"} | PARALLEL
# What may be given beside the option that takes a run's settings from elsewhere.
ALLOWED = {"--resume": COMMON | {"resume", "epochs"}, "--config": COMMON | {"config_file", "out"}}
# Options whose names differ from those of their parameters.
SPELLED = {"preset_name": "--preset", "config_file": "--config"}


class Job(NamedTuple):
    """A run, new or resumed, with its directory and its data set."""

    folder: Path
    run: directory.Run
    data: "Dataset"
    is_new: bool


def resumed_job(
    group: Group, folder: Path, epochs: int | None, data_path: Path | None, with_report: bool
) -> Job:
    """Returns the job of a run directory, with more epochs if they are given."""
    run = with_epochs(group.read_run(folder), epochs)
    if with_report:
        group.check_on_main(lambda: options.page(folder / report.NAME))
    start_jax()
    return Job(folder, run, group.together(lambda: datasets.load_of(run, data_path)), is_new=False)


def repeated_job(group: Group, config_file: Path, data_path: Path | None, out: Path | None) -> Job:
    """Returns the job that repeats a run from its config."""
    folder = config_file if config_file.is_dir() else config_file.parent
    name = directory.CONFIG if config_file.is_dir() else config_file.name
    run = group.read_run(folder, name)
    if out is not None:
        group.check_on_main(lambda: locking.check_new(out))
    start_jax()
    data = group.together(lambda: datasets.load_of(run, data_path))
    return Job(out or locking.default_run_dir(f"{run.preset}-{data.name}"), run, data, is_new=True)


def new_job(
    group: Group,
    preset_name: str,
    config: Config,
    hyperparams: HyperParams,
    seed: int,
    validation_fraction: float,
    dataset: str | None,
    data_dir: Path | None,
    source: "DataSource | None",
    out: Path | None,
) -> Job:
    """Returns the job of a new run."""
    check_hyperparams(hyperparams)
    directory.check_seed(seed)
    check_fraction(validation_fraction)
    if out is not None:
        group.check_on_main(lambda: locking.check_new(out))
    start_jax()
    data = group.together(lambda: datasets.load_new(dataset, data_dir, source, validation_fraction))
    run = datasets.new_run(preset_name, config, hyperparams, seed, data, source, validation_fraction)
    group.check_same(run)
    folder = out or locking.default_run_dir(f"{preset_name}-{data.name}")
    return Job(folder, run, data, is_new=True)


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


def check_only(option: str, ctx: typer.Context) -> None:
    """Refuses options of settings that a run takes from elsewhere.

    Args:
        option: where it takes them from: `--resume` or `--config`.
        ctx: the command's context.

    Raises:
        SpecError: another one was given on the command line.
    """
    for name in sorted(set(ctx.params) - ALLOWED[option]):
        source = ctx.get_parameter_source(name)
        if source is not None and source.name == "COMMANDLINE":
            spelled = SPELLED.get(name, f"--{name.replace('_', '-')}")
            where = {"--resume": "directory", "--config": "config"}[option]
            raise SpecError(f"{option} takes the run's settings from its {where}; leave out {spelled}")


def override[Settings: (Config, HyperParams)](settings: Settings, **changes: Any) -> Settings:
    """Returns the settings with the changes that are not None."""
    given: Any = {name: value for name, value in changes.items() if value is not None}
    return settings._replace(**given) if isinstance(settings, HyperParams) else replace(settings, **given)
