"""`mnist-jax train`."""

import time
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from mnist_jax._utils.process_setup import start_matplotlib
from mnist_jax.cli import console, network, options, parallel, progress, report
from mnist_jax.cli.datasets import source_from
from mnist_jax.cli.parallel import Group
from mnist_jax.cli.train_job import (
    Job,
    check_only,
    check_unfinished,
    new_job,
    override,
    repeated_job,
    resumed_job,
)
from mnist_jax.config.optimizers import OPTIMIZERS, SCHEDULES, Optimizer, Schedule, parse
from mnist_jax.config.presets import DEFAULT_PRESET, preset
from mnist_jax.config.training import MONITORS
from mnist_jax.config.validation import check_positive_int
from mnist_jax.parallel.selection import select_devices
from mnist_jax.runs import directory, locking, pipeline, provenance, session


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
    devices: parallel.Devices = None,
    distributed: parallel.Distributed = False,
    coordinator: parallel.Coordinator = None,
    processes: parallel.Processes = None,
    process_id: parallel.ProcessId = None,
    heartbeat_timeout: parallel.HeartbeatTimeout = 100,
    startup_timeout: parallel.StartupTimeout = 300,
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
    for option, value in {"--resume": resume, "--config": config_file}.items():
        if value is not None:
            check_only(option, ctx)
    group = parallel.join(distributed, coordinator, processes, process_id, heartbeat_timeout, startup_timeout)
    if resume is not None:
        job = resumed_job(group, resume, epochs, data or data_dir, with_report)
    elif config_file is not None:
        job = repeated_job(group, config_file, data or data_dir, out)
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
        job = new_job(group, preset_name, config, hyperparams, seed, fraction, dataset, data_dir, source, out)
        job = job._replace(run=replace(job.run, **selection))

    outcome, metrics = _train(group, job, started, checkpoint_every, with_report, devices)
    if not group.is_main:
        return
    if as_json:
        console.print_json({"run": str(job.folder), **metrics})
    else:
        console.print_run(job.folder, metrics)
    if with_report:
        report.write(job.folder, job.run, job.data, job.folder / report.NAME)
    console.report_status(job.folder, job.run, outcome)


def _train(
    group: Group, job: Job, started: float, checkpoint_every: int, with_report: bool, devices: str | None
) -> tuple[pipeline.RunOutcome, dict[str, Any]]:
    """Trains in the locked run directory; returns the outcome and the content of `metrics.json`."""
    folder, run = job.folder, job.run
    versions, chosen = provenance.versions(), select_devices(devices)
    locked = directory.create_run_dir(folder, run, versions) if job.is_new else locking.reopen_run_dir(folder)
    with ExitStack() as stack:

        def open_run() -> pipeline.StartState:
            stack.enter_context(locked)
            start = session.newest(folder, run, console.print_status)
            check_unfinished(folder, run, start, with_report)
            return start

        start = group.share_start(run, group.together(open_run if group.is_main else lambda: None))
        num_params = f"{run.config.model.num_params:,} parameters"
        console.print_status(f"{run.preset} on {run.dataset}: {run.config.model}, {num_params}")
        shown = stack.enter_context(progress.watch(run.config.epochs, len(start.history)))
        stack.enter_context(console.warnings_as_lines())
        return session.complete(
            folder, run, job.data, versions, started, start, checkpoint_every, shown=shown, devices=chosen
        )
