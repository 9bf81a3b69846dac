"""`mnist-jax train`."""

import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mnist_jax._utils.process_setup import start_jax, start_matplotlib
from mnist_jax.cli import console, datasets, network, options, progress, report
from mnist_jax.cli.datasets import new_run, source_from
from mnist_jax.cli.train_job import (
    REPEAT_OPTIONS,
    RESUME_OPTIONS,
    Job,
    check_only,
    check_unfinished,
    override,
    with_epochs,
)
from mnist_jax.config.optimizers import OPTIMIZERS, SCHEDULES, Optimizer, Schedule, parse
from mnist_jax.config.presets import DEFAULT_PRESET, preset
from mnist_jax.config.training import MONITORS, Config, HyperParams, check_fraction, check_hyperparams
from mnist_jax.config.validation import check_positive_int
from mnist_jax.runs import directory, locking, pipeline, provenance, session

if TYPE_CHECKING:
    from mnist_jax.data.custom.source import DataSource


def train(
    ctx: typer.Context,
    preset_name: options.PresetName = DEFAULT_PRESET,
    dataset: options.DatasetName = None,
    data_dir: options.DataDir = None,
    data: options.OwnData = None,
    test_data: options.TestData = None,
    test_fraction: options.TestFraction = None,
    classes: options.ClassNames = None,
    invert: options.Invert = False,
    resize: options.Resize = False,
    transposed: options.Transposed = False,
    hidden: network.Hidden = None,
    activation: network.ActivationName = None,
    output: network.OutputName = None,
    init: network.InitName = None,
    channels: network.Channels = None,
    kernel: network.KernelSize = None,
    pool: network.PoolName = None,
    padding: network.PaddingNames = None,
    epochs: Annotated[int | None, typer.Option(metavar="N", help="Epochs to train.")] = None,
    batch_size: Annotated[int | None, typer.Option(metavar="N", help="Batch size.")] = None,
    optimizer: Annotated[
        str | None,
        typer.Option(
            metavar="O", help=f"{', '.join(OPTIMIZERS)}; with options: sgd:momentum=0.9,nesterov=true"
        ),
    ] = None,
    schedule: Annotated[
        str | None,
        typer.Option(metavar="S", help=f"{', '.join(SCHEDULES)}; with options: cosine:end_factor=0.1"),
    ] = None,
    learning_rate: Annotated[
        float | None,
        typer.Option(metavar="X", help="Learning rate. (default: the optimizer's)", show_default=False),
    ] = None,
    weight_decay: Annotated[
        float | None,
        typer.Option(
            metavar="X", help="Decoupled weight decay. (default: the optimizer's)", show_default=False
        ),
    ] = None,
    clip_norm: Annotated[
        float | None, typer.Option(metavar="X", help="Clip gradients to this global norm.")
    ] = None,
    ema_decay: Annotated[
        float | None,
        typer.Option(metavar="X", help="Decay of a moving average of the parameters, such as 0.999."),
    ] = None,
    label_smoothing: Annotated[
        float | None, typer.Option(metavar="X", help="Label smoothing, 0 to 1.")
    ] = None,
    dtype: Annotated[
        str | None,
        typer.Option(metavar="T", help="Compute dtype in training: float32 or bfloat16."),
    ] = None,
    dropout: Annotated[float | None, typer.Option(metavar="X", help="Dropout rate of hidden layers.")] = None,
    deformation: Annotated[
        str | None,
        typer.Option(
            metavar="D",
            help="Deformation of images: rotate=15,scale=0.15,shift=1.5,elastic_alpha=34; or none.",
        ),
    ] = None,
    fgsm_epsilon: Annotated[
        float | None,
        typer.Option(metavar="X", help="Step of FGSM adversarial training, of pixels in 0..1."),
    ] = None,
    validation_fraction: Annotated[
        float | None, typer.Option(metavar="X", help="Fraction of the training set held out for validation.")
    ] = None,
    early_stopping: Annotated[
        int | None,
        typer.Option(metavar="N", help="Stop after this number of epochs without an improvement."),
    ] = None,
    keep_best: Annotated[
        bool, typer.Option("--keep-best", help="Score and export the network of the best epoch.")
    ] = False,
    monitor: Annotated[
        str | None,
        typer.Option(metavar="M", help=f"What is best: {', '.join(MONITORS)}. (default: {MONITORS[0]})"),
    ] = None,
    seed: Annotated[
        int, typer.Option(metavar="N", help="Seed. On one machine, the same seed gives the same network.")
    ] = 0,
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
            help="Resume a stopped run, or train it for more --epochs.",
            show_default=False,
        ),
    ] = None,
    config_file: Annotated[
        Path | None,
        typer.Option(
            "--config",
            metavar="FILE",
            help="Repeat the run of a config.json, or of a run directory.",
            show_default=False,
        ),
    ] = None,
    checkpoint_every: Annotated[int, typer.Option(metavar="N", help="Epochs between two checkpoints.")] = 1,
    with_report: Annotated[
        bool, typer.Option("--report", help="Write report.html at the end, like `mnist-jax report`.")
    ] = False,
    platform: options.Platform = None,
    as_json: options.Json = False,
) -> None:
    """Train a network, score it on the test set, export it to ONNX, and check that the file equals JAX.

    The preset supplies all other settings. Ctrl-C once stops after the current epoch and writes all results;
    twice stops immediately. In both cases --resume continues to a bit-identical result.

    Example: mnist-jax train --preset mlp-100 --epochs 5 --seed 1
    """
    started = time.perf_counter()
    check_positive_int("checkpoint-every", checkpoint_every)
    if with_report:
        start_matplotlib()
    if resume is not None:
        check_only("--resume", ctx, RESUME_OPTIONS)
        job = _resumed_job(resume, epochs, data or data_dir, with_report)
    elif config_file is not None:
        check_only("--config", ctx, REPEAT_OPTIONS)
        job = _repeated_job(config_file, data or data_dir, out)
    else:
        source = source_from(
            data, test_data, test_fraction, classes, invert=invert, resize=resize, transposed=transposed
        )
        recipe = preset(preset_name)
        config = override(
            recipe.config,
            model=network.network_from(
                recipe.network,
                hidden=hidden,
                activation=activation,
                output=output,
                init=init,
                channels=channels,
                kernel=kernel,
                pool=pool,
                padding=padding,
            ),
            epochs=epochs,
            batch_size=batch_size,
            optimizer=None if optimizer is None else parse(Optimizer, optimizer),
            schedule=None if schedule is None else parse(Schedule, schedule),
            clip_norm=clip_norm,
            ema_decay=ema_decay,
            dtype=dtype,
            dropout=dropout,
            deformation=None if deformation is None else options.deformation(deformation),
            fgsm_epsilon=fgsm_epsilon,
        )
        hyperparams = override(
            recipe.hyperparams_for(config.optimizer),
            learning_rate=learning_rate,
            weight_decay=weight_decay,
            label_smoothing=label_smoothing,
        )
        fraction = recipe.validation_fraction if validation_fraction is None else validation_fraction
        selection: dict[str, Any] = {
            "early_stopping": early_stopping,
            "keep_best": keep_best or None,
            "monitor": monitor,
        }
        directory.check_selection(**selection, validation_fraction=fraction)
        job = _new_job(preset_name, config, hyperparams, seed, fraction, dataset, data_dir, source, out)
        job = job._replace(run=replace(job.run, **selection))

    outcome, metrics = _train(job, started, checkpoint_every, with_report)
    if as_json:
        console.print_json({"run": str(job.folder), **metrics})
    else:
        console.print_run(job.folder, metrics)
    if with_report:
        report.write(job.folder, job.run, job.data, job.folder / report.NAME)
    console.report_status(job.folder, job.run, outcome)


def _resumed_job(folder: Path, epochs: int | None, data_path: Path | None, with_report: bool) -> Job:
    run = with_epochs(directory.read(folder), epochs)
    if with_report:
        options.page(folder / report.NAME)
    start_jax()
    return Job(folder, run, datasets.load_of(run, data_path), is_new=False)


def _repeated_job(config_file: Path, data_path: Path | None, out: Path | None) -> Job:
    folder = config_file if config_file.is_dir() else config_file.parent
    name = directory.CONFIG if config_file.is_dir() else config_file.name
    run = directory.read(folder, name)
    if out is not None:
        locking.check_new(out)
    start_jax()
    data = datasets.load_of(run, data_path)
    return Job(out or locking.default_run_dir(f"{run.preset}-{data.name}"), run, data, is_new=True)


def _new_job(
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
    check_hyperparams(hyperparams)
    directory.check_seed(seed)
    check_fraction(validation_fraction)
    if out is not None:
        locking.check_new(out)
    start_jax()
    data = datasets.load_new(dataset, data_dir, source, validation_fraction)
    run = new_run(preset_name, config, hyperparams, seed, data, source, validation_fraction)
    folder = out or locking.default_run_dir(f"{preset_name}-{data.name}")
    return Job(folder, run, data, is_new=True)


def _train(
    job: Job, started: float, checkpoint_every: int, with_report: bool
) -> tuple[pipeline.RunOutcome, dict[str, Any]]:
    """Trains in the locked run directory; returns the outcome and the content of `metrics.json`."""
    folder, run = job.folder, job.run
    versions = provenance.versions()
    locked = directory.create_run_dir(folder, run, versions) if job.is_new else locking.reopen_run_dir(folder)
    with locked:
        start = session.newest(folder, run, console.print_status)
        check_unfinished(folder, run, start, with_report)
        num_params = f"{run.config.model.num_params:,} parameters"
        console.print_status(f"{run.preset} on {run.dataset}: {run.config.model}, {num_params}")
        with progress.watch(run.config.epochs, len(start.history)) as shown:
            return session.complete(
                folder, run, job.data, versions, started, start, checkpoint_every, shown=shown
            )
