"""`mnist-jax serve`: the page to draw on, on this machine alone."""

import mimetypes
import signal
import sys
import threading
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Annotated

import typer

from mnist_jax.cli import console, options
from mnist_jax.cli.web import page
from mnist_jax.errors import RunError

HERE = "127.0.0.1"
HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; style-src 'self'; img-src 'self'; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-cache",
}
TYPES = {".js": "text/javascript", ".mjs": "text/javascript", ".wasm": "application/wasm"}


def serve(
    model: options.RunOrFile,
    port: Annotated[
        int, typer.Option(metavar="N", help="(default: any that is free)", show_default=False)
    ] = 0,
    no_browser: Annotated[bool, typer.Option("--no-browser", help="Only print the address.")] = False,
    data_dir: options.DataDir = None,
) -> None:
    """Draw digits in the browser, and watch a trained network read them.

    The page is served on this machine alone, until Ctrl-C. The network runs in the browser. Needs npm, once,
    for the files of onnxruntime-web.

    Example: mnist-jax serve runs/my-run
    """
    if not 0 <= port < 2**16:
        raise RunError(f"--port must be a whole number from 0 to {2**16 - 1}; got {port}")
    files = page(model, data_dir)
    try:
        server = Server((HERE, port), handler(files))
    except OSError as error:
        raise RunError(f"--port must be one that is free; {port}: {error.strerror}") from None
    address = f"http://{HERE}:{server.server_port}/"
    print(address, flush=True)  # noqa: T201
    console.note("Ctrl-C ends it")
    if not no_browser:
        import webbrowser

        # Some browsers are programs of the terminal, and come back when they are closed.
        threading.Thread(target=webbrowser.open, args=(address,), daemon=True).start()
    # Set, since what a shell starts in the background is deaf to the first.
    for ending in (signal.SIGINT, signal.SIGTERM):
        signal.signal(ending, signal.default_int_handler)
    with server:
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            console.note("ended")


class Server(ThreadingHTTPServer):
    """A server that says nothing of visitors who leave before they have all they asked for."""

    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """Tells of all other errors."""
        if not isinstance(sys.exc_info()[1], ConnectionError | TimeoutError):
            super().handle_error(request, client_address)  # type: ignore[arg-type]


def handler(files: Mapping[str, bytes]) -> type[BaseHTTPRequestHandler]:
    """A request handler that knows these files and nothing else: there is no path to walk out of."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        timeout = 30
        server: ThreadingHTTPServer

        def do_GET(self) -> None:
            name = self.path.partition("?")[0].removeprefix("/") or "index.html"
            host, _, port = self.headers.get("Host", "").lower().partition(":")
            if host not in (HERE, "localhost") or (port or "80") != str(self.server.server_port):
                # Another name for this machine: a page elsewhere may have made it up, to read what is here.
                self._answer(421, "text/plain", b"ask for 127.0.0.1\n")
            elif name in files:
                suffix = name[name.rfind(".") :]
                kind = TYPES.get(suffix) or mimetypes.guess_type(name)[0] or "application/octet-stream"
                self._answer(200, kind, files[name])
            else:
                self._answer(404, "text/plain", b"there is no such file\n")

        do_HEAD = do_GET  # noqa: N815

        def _answer(self, status: int, kind: str, data: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Type", f"{kind}; charset=utf-8" if "text/" in kind else kind)
            self.send_header("Content-Length", str(len(data)))
            for name, value in HEADERS.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(data)

        def version_string(self) -> str:
            return "mnist-jax"

        def log_message(self, *arguments: object) -> None:
            """Says nothing: the terminal is the user's."""

    return Handler
