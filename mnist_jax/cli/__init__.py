"""The command line: each command in a file of its own, put together here.

Whatever goes wrong on purpose ends as one line on stderr. Exit codes: 0 done, 1 a check failed,
2 bad usage, input or environment, 130 interrupted, 141 the reader of the output has gone.
"""

import os
import sys
from collections.abc import Sequence

from mnist_jax.errors import DivergenceError, MnistJaxError, NotInstalledError

try:
    import typer
except ModuleNotFoundError as error:  # installed alone, for `mnist_onnx.Classifier`
    print(f"mnist-jax: {NotInstalledError('the command', error)}", file=sys.stderr)  # noqa: T201
    raise SystemExit(2) from None

from mnist_jax.cli import (
    compare,
    ensemble,
    evaluate,
    export,
    predict,
    presets,
    report,
    reproduce,
    serve,
    sweep,
    train,
    tune,
    verify,
    web,
)
from mnist_jax.cli.console import complain
from mnist_jax.cli.process import asked_of, settle

app = typer.Typer(
    help="Train digit classifiers in JAX, prove them, and run them anywhere as ONNX.",
    add_completion=False,
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)


def _version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        print(version("mnist-jax"))  # noqa: T201
        raise typer.Exit


@app.callback()
def _options(
    _: bool = typer.Option(False, "--version", callback=_version, is_eager=True, help="Print the version."),
) -> None:
    pass


for _command in (
    train.train,
    sweep.sweep,
    tune.tune,
    evaluate.evaluate,
    export.export,
    verify.verify,
    report.report,
    compare.compare,
    ensemble.ensemble,
    predict.predict,
    serve.serve,
    web.web,
    presets.presets,
    reproduce.reproduce,
):
    app.command()(_command)


def _came(error: typer.TyperException) -> str:
    """What was given, where a value could not be converted, which Typer's own sentence leaves out."""
    cause = error.__cause__  # pydantic's
    errors = getattr(cause, "errors", None)
    return "" if errors is None else f"; got {errors()[0]['input']!r}"


def _where_to_look(error: typer.TyperException) -> str:
    context = getattr(error, "ctx", None)
    return "" if context is None else f"; see `{context.command_path} --help`"


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command line; returns its exit code."""
    settle()
    try:
        code = _run(arguments)
        sys.stdout.flush()
        return code
    except BrokenPipeError:
        return _reader_gone()
    except SystemExit as ending:  # Typer and Rich make one of a broken pipe, with another exit code
        if not isinstance(ending.__context__, BrokenPipeError):
            raise
        return _reader_gone()


def _reader_gone() -> int:
    """What is left to do when the reader of our output has gone, as `head` does: to fall silent."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (sys.__stdout__, sys.__stderr__):
        if stream is not None:
            os.dup2(nowhere, stream.fileno())  # where Python writes what it still holds when it ends
    return 128 + 13  # what a shell shows for a program that SIGPIPE ended


def _run(arguments: Sequence[str] | None) -> int:
    try:
        code = app(arguments, prog_name="mnist-jax", standalone_mode=False)
    except typer.TyperException as error:
        if message := error.format_message():  # empty where the help has been shown; some end in a stop
            complain(message.rstrip(".") + _came(error) + _where_to_look(error))
        return error.exit_code
    except BrokenPipeError:
        raise
    except Exception as error:
        message, code = _explained(error)
        complain(message)
        return code
    if code == 130:
        complain("interrupted")
    return int(code or 0)


def _explained(error: Exception) -> tuple[str, int]:
    """The line and the exit code for what went wrong; what nobody has foreseen is raised again."""
    if isinstance(error, DivergenceError):
        return str(error), 1
    if isinstance(error, FloatingPointError):  # of JAX's own check, where jax_debug_nans asks for it
        return f"every number must be finite; {str(error).partition('\n')[0]}", 1
    if isinstance(error, MnistJaxError):
        return str(error), 2
    if isinstance(error, ModuleNotFoundError) and not (error.name or "").startswith("mnist_"):
        return str(NotInstalledError("this command", error)), 2
    if isinstance(error, OSError):
        return f"{error.filename or 'the output'} cannot be written or read: {error.strerror or error}", 2
    if isinstance(error, MemoryError):
        said = str(error).rstrip(".") or "there is no more"
        return f"this must fit into memory, and does not: {said}; ask for less at once", 2
    # What JAX makes of a setting that we have not foreseen; of these two `start_jax` knows what may be.
    if settings := asked_of("JAX", but=("JAX_PLATFORMS", "JAX_COMPILATION_CACHE_DIR")):
        said = f"{type(error).__name__}: {str(error).partition('\n')[0]}"
        return f"JAX must be able to work; {said}{settings}", 2
    raise error
