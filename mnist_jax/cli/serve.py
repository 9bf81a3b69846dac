"""`mnist-jax serve`: the drawing page, on this machine only."""

import signal
import threading
from typing import Annotated

import typer

from mnist_jax.cli import console, options
from mnist_jax.cli.web import page
from mnist_jax.errors import RunError
from mnist_onnx.webapp_server import HOST, Server, handler


def serve(
    model: options.RunOrFile,
    port: Annotated[
        int, typer.Option(metavar="N", help="(default: any that is free)", show_default=False)
    ] = 0,
    no_browser: Annotated[bool, typer.Option("--no-browser", help="Only print the address.")] = False,
    data_dir: options.DataPath = None,
) -> None:
    """Draw digits in the browser and see what a trained network predicts.

    Serves the page on this machine only, until Ctrl-C. The network runs in the browser. Needs npm, once, to
    download onnxruntime-web.

    Example: mnist-jax serve runs/my-run
    """
    if not 0 <= port < 2**16:
        raise RunError(f"--port must be a whole number from 0 to {2**16 - 1}; got {port}")
    files = page(model, data_dir)
    try:
        server = Server((HOST, port), handler(files))
    except OSError as error:
        raise RunError(f"--port must be free; {port}: {error.strerror}") from None
    address = f"http://{HOST}:{server.server_port}/"
    print(address, flush=True)  # noqa: T201
    console.print_status("press Ctrl-C to stop")
    if not no_browser:
        import webbrowser

        # In a thread: `open` blocks until a browser in the terminal is closed.
        threading.Thread(target=webbrowser.open, args=(address,), daemon=True).start()
    # Set explicitly, since background processes of a shell ignore SIGINT.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    with server:
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            console.print_status("stopped")
