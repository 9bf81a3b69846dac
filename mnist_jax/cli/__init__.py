"""The command line: one module per command, assembled here.

Every expected error ends as one line on stderr. Exit codes: 0 success, 1 a check failed, 2 bad usage, input
or environment, 130 interrupted, 141 broken pipe.
"""

import difflib
import os
import sys
from collections.abc import Sequence

from mnist_jax.errors import DivergenceError, MnistJaxError, NotInstalledError

try:
    import typer
except ModuleNotFoundError as error:  # installed without dependencies, for `mnist_onnx.Classifier`
    print(f"mnist-jax: {NotInstalledError('the command', error)}", file=sys.stderr)  # noqa: T201
    raise SystemExit(2) from None

from mnist_jax._utils.process_setup import configure_process, environment_hint
from mnist_jax.cli import (
    bench,
    compare,
    ensemble,
    evaluate,
    export,
    launch,
    parallel,
    predict,
    presets,
    report,
    reproduce,
    runs,
    serve,
    sweep,
    train,
    tune,
    verify,
    web,
)
from mnist_jax.cli.console import print_error

SIMILAR = 0.75  # of 1: how similar to what was written an option must be to be suggested

app = typer.Typer(
    help="Train digit classifiers in JAX, and export them to ONNX files that are proven equal.",
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)


def _version(requested: bool) -> None:
    if requested:
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
    runs.runs,
    reproduce.reproduce,
):
    app.command()(_command)
# These two hand their arguments on.
app.command(context_settings={"ignore_unknown_options": True})(launch.launch)
app.command(context_settings={"ignore_unknown_options": True, "help_option_names": []})(bench.bench)


def _without_far_fetched(error: typer.TyperException) -> str:
    """The message of an error, which suggests an option only if it is spelled similarly."""
    name = getattr(error, "option_name", None)
    if not name or not hasattr(error, "possibilities"):
        return error.format_message()
    close = difflib.get_close_matches(name, error.possibilities or (), cutoff=SIMILAR)
    return f"No such option: {name}" + (f"; did you mean {' or '.join(close)}?" if close else "")


def _invalid_value(error: typer.TyperException) -> str:
    """Quotes a value that could not be converted; Typer's own message leaves it out."""
    cause = error.__cause__  # pydantic's
    errors = getattr(cause, "errors", None)
    return "" if errors is None else f"; got {errors()[0]['input']!r}"


def _help_hint(error: typer.TyperException) -> str:
    context = getattr(error, "ctx", None)
    return "" if context is None else f"; see `{context.command_path} --help`"


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command line.

    Args:
        arguments: the arguments after the program's name; defaults to `sys.argv`.

    Returns:
        The exit code.
    """
    configure_process()
    try:
        code = _run(arguments)
        sys.stdout.flush()
        if code:  # others may not have failed, and wait
            parallel.leave(code)
        return code
    except BrokenPipeError:
        return _silence()
    except SystemExit as exiting:  # Typer and Rich turn a broken pipe into one, with another exit code
        if not isinstance(exiting.__context__, BrokenPipeError):
            raise
        return _silence()


def _silence() -> int:
    """Discards further output after a broken pipe, such as that of `head`; returns the exit code."""
    devnull = os.open(os.devnull, os.O_WRONLY)
    for stream in (sys.__stdout__, sys.__stderr__):
        if stream is not None:
            os.dup2(devnull, stream.fileno())  # Python flushes its buffers there when it exits
    return 128 + 13  # the exit code of a process killed by SIGPIPE


def _run(arguments: Sequence[str] | None) -> int:
    try:
        code = app(arguments, prog_name="mnist-jax", standalone_mode=False)
    except typer.TyperException as error:
        if message := _without_far_fetched(error):  # empty after the help; some end in a period
            print_error(message.rstrip(".") + _invalid_value(error) + _help_hint(error))
        return error.exit_code
    except BrokenPipeError:
        raise
    except Exception as error:
        message, code = _explain(error)
        print_error(message)
        return code
    if code == 130:
        print_error("interrupted")
    return int(code or 0)


def _explain(error: Exception) -> tuple[str, int]:
    """Returns the message and the exit code of an expected error; raises any other one again."""
    if isinstance(error, DivergenceError):
        return str(error), 1
    if isinstance(error, FloatingPointError):  # raised by JAX under jax_debug_nans
        return f"every number must be finite; {str(error).partition('\n')[0]}", 1
    if isinstance(error, MnistJaxError):
        return str(error), 2
    if isinstance(error, ModuleNotFoundError) and not (error.name or "").startswith("mnist_"):
        return str(NotInstalledError("this command", error)), 2
    if isinstance(error, OSError):
        return f"{error.filename or 'the output'} cannot be written or read: {error.strerror or error}", 2
    if isinstance(error, MemoryError):
        reason = str(error).rstrip(".") or "no memory left"
        return f"data and computation must fit in memory; {reason}; reduce the batch size or the input", 2
    # Any other error under a JAX setting may come from it; `start_jax` handles the two that are ignored here.
    if settings := environment_hint("JAX", ignore=("JAX_PLATFORMS", "JAX_COMPILATION_CACHE_DIR")):
        reason = f"{type(error).__name__}: {str(error).partition('\n')[0]}"
        return f"JAX must be able to work; {reason}{settings}", 2
    raise error
