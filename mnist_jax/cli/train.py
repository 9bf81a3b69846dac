"""`mnist-jax train`."""

import shlex
import time
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from mnist_jax import directories, machine, results, runs
from mnist_jax.cli import console, experiment, options, report, session
from mnist_jax.cli.process import default_prng_impl, start_jax, start_matplotlib
from mnist_jax.errors import RunError, SpecError
from mnist_jax.optimizers import OPTIMIZERS, SCHEDULES, Optimizer, Schedule
from mnist_jax.presets import DEFAULT_PRESET, preset
from mnist_jax.settings import check_whole
from mnist_jax.specs import Config, Hyper, check_fraction, check_hyper


def train(
    ctx: typer.Context,
    preset_name: options.PresetName = DEFAULT_PRESET,
    dataset: options.DatasetName = None,
    data_dir: options.DataDir = None,
    epochs: Annotated[int | None, typer.Option(metavar="N", help="Passes over the training set.")] = None,
    batch_size: Annotated[int | None, typer.Option(metavar="N", help="Examples per step.")] = None,
    optimizer: Annotated[
        str | None,
        typer.Option(
            metavar="O", help=f"{', '.join(OPTIMIZERS)}; options so: sgd:momentum=0.9,nesterov=true"
        ),
    ] = None,
    schedule: Annotated[
        str | None, typer.Option(metavar="S", help=f"{', '.join(SCHEDULES)}; with options: cosine:final=0.1")
    ] = None,
    learning_rate: Annotated[
        float | None,
        typer.Option(metavar="X", help="Step size. (default: the optimiser's)", show_default=False),
    ] = None,
    weight_decay: Annotated[
        float | None,
        typer.Option(metavar="X", help="Decoupled. (default: the optimiser's)", show_default=False),
    ] = None,
    clip_norm: Annotated[
        float | None, typer.Option(metavar="X", help="Largest norm of a step's gradient.")
    ] = None,
    ema_decay: Annotated[
        float | None,
        typer.Option(metavar="X", help="Keep the moving average of the parameters, such as 0.999."),
    ] = None,
    label_smoothing: Annotated[
        float | None, typer.Option(metavar="X", help="Share of the target for all classes.")
    ] = None,
    dtype: Annotated[
        str | None,
        typer.Option(metavar="T", help="What layers compute in while they train: float32 or bfloat16."),
    ] = None,
    dropout: Annotated[
        float | None, typer.Option(metavar="X", help="Share of hidden outputs that a step leaves out.")
    ] = None,
    deformation: Annotated[
        str | None,
        typer.Option(
            metavar="D",
            help="How far images are deformed: rotate=15,shear=15,scale=0.15,shift=1.5,elastic=34; or none.",
        ),
    ] = None,
    adversarial: Annotated[
        float | None,
        typer.Option(metavar="X", help="How far pixels are moved, of 0..1, to make the loss grow."),
    ] = None,
    validation_fraction: Annotated[
        float | None, typer.Option(metavar="X", help="Held out of the training set, at its end.")
    ] = None,
    seed: Annotated[int, typer.Option(metavar="N", help="Same seed, same machine: same network.")] = 0,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="RUN_DIR", help="A new directory. (default: runs/PRESET-DATASET-TIME)", show_default=False
        ),
    ] = None,
    resume: Annotated[
        Path | None,
        typer.Option(
            metavar="RUN_DIR",
            help="Go on with a run that was stopped, or train it for more --epochs.",
            show_default=False,
        ),
    ] = None,
    checkpoint_every: Annotated[int, typer.Option(metavar="N", help="Epochs between two checkpoints.")] = 1,
    with_report: Annotated[
        bool, typer.Option("--report", help="Write report.html at the end, as `mnist-jax report` does.")
    ] = False,
    as_json: options.Json = False,
) -> None:
    """Train a network, score it on the test set, export it to ONNX, and prove the file equal.

    Settings that are not given come from the preset. Ctrl-C once ends after the epoch, with all results
    for what was trained; twice stops at once. Either way --resume goes on, to the same bits.

    Example: mnist-jax train --preset mlp-100 --epochs 5 --seed 1
    """
    started = time.perf_counter()
    check_whole("checkpoint-every", checkpoint_every)
    if with_report:
        start_matplotlib()
    if resume is not None:
        _refuse_settings(ctx)
        folder, run = resume, _longer(runs.read(resume), epochs)
        if with_report:
            options.page(folder / report.NAME)
        start_jax()
        data = experiment.load_for(run, data_dir)
    else:
        recipe = preset(preset_name)
        config = _with(
            recipe.config,
            epochs=epochs,
            batch_size=batch_size,
            optimizer=None if optimizer is None else options.parse(Optimizer, optimizer),
            schedule=None if schedule is None else options.parse(Schedule, schedule),
            clip_norm=clip_norm,
            ema_decay=ema_decay,
            dtype=dtype,
            dropout=dropout,
            deformation=None if deformation is None else options.deformation(deformation),
            adversarial=adversarial,
        )
        hyper = _with(
            recipe.hyper_with(config.optimizer),
            learning_rate=learning_rate,
            weight_decay=weight_decay,
            label_smoothing=label_smoothing,
        )
        check_hyper(hyper)
        runs.check_seed(seed)
        fraction = recipe.validation_fraction if validation_fraction is None else validation_fraction
        check_fraction(fraction)
        if out is not None:
            directories.check_new(out)
        start_jax()
        data = experiment.load_or_digits(dataset, data_dir, fraction)
        keys = default_prng_impl()
        run = runs.Run(preset_name, config, hyper, seed, data.name, data.sha256, fraction, keys)
        folder = out or directories.fresh(f"{run.preset}-{run.dataset}")

    versions = machine.versions()
    with runs.claim(folder, run, versions) if resume is None else directories.reopen(folder):
        begin = session.newest(folder, run)
        done = len(begin.history)
        if done > run.config.epochs or (done == run.config.epochs and _is_scored(folder, begin)):
            page = f"; for its page: mnist-jax report {shlex.quote(str(folder))}" if with_report else ""
            raise RunError(f"{folder} has done all its epochs ({done}); {_for_more(run, done)}{page}")
        parameters = f"{run.config.model.parameters:,} parameters"
        console.note(f"{run.preset} on {run.dataset}: {run.config.model}, {parameters}")
        outcome, metrics = session.complete(folder, run, data, versions, started, begin, checkpoint_every)
    if as_json:
        console.print_json({"run": str(folder), **metrics})
    else:
        session.show(folder, metrics)
    if with_report:
        report.write(folder, run, data, folder / report.NAME)
    session.conclude(folder, run, outcome)


def _is_scored(folder: Path, begin: experiment.Begin) -> bool:
    return begin.state is not None and results.is_scored(folder, len(begin.history), begin.state.eval_params)


def _longer(run: runs.Run, epochs: int | None) -> runs.Run:
    """The run with another number of epochs, if one is given."""
    if epochs is None or epochs == run.config.epochs:
        return run
    if run.config.schedule.follows_run:
        raise SpecError(
            f"--epochs must stay {run.config.epochs}, over which the run's {run.config.schedule} schedule is "
            f"spread; got {epochs}; begin a new run for more"
        )
    return replace(run, config=replace(run.config, epochs=epochs))


def _for_more(run: runs.Run, done: int) -> str:
    if run.config.schedule.follows_run:
        return f"its {run.config.schedule} schedule is spread over them; begin a new run for more"
    return f"--epochs {done + 1} or more trains on"


def _with[Settings: (Config, Hyper)](settings: Settings, **changes: Any) -> Settings:
    """The settings with those changes that are given."""
    given: Any = {name: value for name, value in changes.items() if value is not None}
    return settings._replace(**given) if isinstance(settings, Hyper) else replace(settings, **given)


def _refuse_settings(ctx: typer.Context) -> None:
    """A run that goes on has its settings from its directory, all but those that don't change its path."""
    free = {"resume", "epochs", "data_dir", "checkpoint_every", "with_report", "as_json"}
    for name in sorted(set(ctx.params) - free):
        source = ctx.get_parameter_source(name)
        if source is not None and source.name == "COMMANDLINE":
            option = "--preset" if name == "preset_name" else f"--{name.replace('_', '-')}"
            raise SpecError(f"--resume takes the run's settings from its directory; leave out {option}")
