"""A local HTTP server for the page: serves a fixed set of files, to this machine only."""

import mimetypes
import sys
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

HOST = "127.0.0.1"
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


class Server(ThreadingHTTPServer):
    """A threading server that ignores clients that disconnect."""

    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """Reports all other errors."""
        if not isinstance(sys.exc_info()[1], ConnectionError | TimeoutError):
            super().handle_error(request, client_address)  # type: ignore[arg-type]


def handler(files: Mapping[str, bytes]) -> type[BaseHTTPRequestHandler]:
    """Makes a request handler that serves only the given files; it never reads the file system.

    Args:
        files: the content of each file by its path, such as `ort/ort.wasm.min.mjs`.
    """

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        timeout = 30
        server: ThreadingHTTPServer

        def do_GET(self) -> None:
            name = self.path.partition("?")[0].removeprefix("/") or "index.html"
            host, _, port = self.headers.get("Host", "").lower().partition(":")
            if host not in (HOST, "localhost") or (port or "80") != str(self.server.server_port):
                # DNS rebinding: another site can point a name of its own at this machine to read the files.
                self._respond(421, "text/plain", f"use the host {HOST}\n".encode())
            elif name in files:
                suffix = name[name.rfind(".") :]
                kind = TYPES.get(suffix) or mimetypes.guess_type(name)[0] or "application/octet-stream"
                self._respond(200, kind, files[name])
            else:
                self._respond(404, "text/plain", b"no such file\n")

        do_HEAD = do_GET  # noqa: N815

        def _respond(self, status: int, kind: str, data: bytes) -> None:
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
            """Logs nothing: the terminal belongs to the command."""

    return Handler
