"""Downloads from local test servers, working and broken."""

import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import tensorflow_datasets as tfds

from mnist_jax.data import download, registry
from mnist_jax.data.datasets import load
from mnist_jax.data.registry import Source
from mnist_jax.errors import DatasetUnavailableError


class Mirror(ThreadingHTTPServer):
    """Serves a folder, or fails in the given way."""

    def __init__(self, folder: Path, behavior: str) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.folder, self.behavior, self.closing = folder, behavior, threading.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/"


class Handler(BaseHTTPRequestHandler):
    server: Mirror

    def do_HEAD(self) -> None:
        self.answer(body=False)

    def do_GET(self) -> None:
        self.answer(body=True)

    def answer(self, body: bool) -> None:
        if self.server.behavior == "unavailable":
            self.send_error(503)
            return
        if self.server.behavior == "garbage":
            self.wfile.write(b"garbage\r\n")
            return
        if self.server.behavior == "silent":
            self.server.closing.wait()
            return
        data = (self.server.folder / self.path.lstrip("/")).read_bytes()
        if self.server.behavior == "damaged":
            data = data[:-1] + bytes([data[-1] ^ 1])
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if body:
            self.wfile.write(data if self.server.behavior != "stalling" else data[: len(data) // 2])
            if self.server.behavior == "stalling":
                self.wfile.flush()
                self.server.closing.wait()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def mirrors(
    fake_mnist: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Path]:
    """Starts MNIST's mirrors with the behaviors in the test's parameter; yields the cache folder."""
    servers = [Mirror(fake_mnist, behavior) for behavior in request.param]
    threads = [threading.Thread(target=server.serve_forever, args=(0.05,)) for server in servers]
    for thread in threads:
        thread.start()
    source = replace(registry.SOURCES["mnist"], mirrors=tuple(server.url for server in servers))
    monkeypatch.setitem(registry.SOURCES, "mnist", source)
    # Short only where the timeout is tested: on a busy machine working mirrors are slow, too.
    monkeypatch.setattr(download, "STALL_SECONDS", 5.0 if "stalling" in request.param else 600.0)
    monkeypatch.setattr(download, "PROBE_SECONDS", 3.0 if "silent" in request.param else 60.0)
    yield fake_mnist.parent / "cache" / "mnist-jax" / "mnist"
    for server, thread in zip(servers, threads, strict=True):
        server.closing.set()
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.mark.parametrize("mirrors", [["good"]], indirect=True)
def test_a_data_set_is_downloaded_verified_and_cached(mirrors: Path) -> None:
    data = load("mnist")
    assert len(data.train.labels) == 1350
    names = {path.name for path in mirrors.iterdir()}
    assert names == {
        f"{f.name}{end}" for f in registry.SOURCES["mnist"].files for end in ("", ".gz", ".stamp")
    }


@pytest.mark.slow
@pytest.mark.parametrize(
    "mirrors",
    [["unavailable", "good"], ["damaged", "good"], ["stalling", "good"], ["silent", "good"]],
    indirect=True,
)
def test_the_second_mirror_is_tried_if_the_first_fails(mirrors: Path) -> None:
    assert len(load("mnist").train.labels) == 1350


@pytest.mark.slow
@pytest.mark.parametrize(
    ("mirrors", "reason"),
    [
        (["unavailable"], "HTTP 503"),
        (["damaged"], "(?i)checksum"),
        (["stalling"], "no data for 5 s"),
        (["silent"], "no response within 3 s|timed out"),
        (["garbage"], "invalid response: garbage"),
    ],
    indirect=["mirrors"],
)
def test_a_failed_download_gives_the_reason_and_leaves_no_files(mirrors: Path, reason: str) -> None:
    with pytest.raises(DatasetUnavailableError, match=reason) as caught:
        load("mnist")
    assert "\n" not in str(caught.value)
    assert not list(mirrors.iterdir())


@pytest.mark.slow
@pytest.mark.parametrize("mirrors", [["good"]], indirect=True)
def test_a_damaged_file_in_the_cache_is_downloaded_again(mirrors: Path) -> None:
    load("mnist")
    name = registry.SOURCES["mnist"].files[3].name
    (mirrors / name).unlink()
    (mirrors / f"{name}.gz").write_bytes(b"damaged")
    assert len(load("mnist").test.labels) == 297


@pytest.mark.parametrize("mirrors", [["good"]], indirect=True)
def test_concurrent_downloads_are_safe(mirrors: Path) -> None:
    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(lambda _: load("mnist"), range(2))
    assert first.sha256 == second.sha256
    assert not list(mirrors.glob(".*"))


@pytest.mark.parametrize("name", ["mnist", "fashion_mnist", "kmnist"])
def test_the_checksums_are_those_of_tensorflow_datasets(name: str) -> None:
    pinned = tfds.core.download.checksums.get_all_url_infos()
    source: Source = registry.SOURCES[name]
    for file in source.files:
        info = pinned[f"{source.mirrors[0]}{file.name}.gz"]
        assert (info.checksum, info.size) == (file.sha256, file.size)


def test_the_probe_times_out_during_name_resolution(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    release = threading.Event()

    def resolve(*_: object, **__: object) -> None:
        release.wait()
        raise socket.gaierror("too late")

    monkeypatch.setattr(download, "PROBE_SECONDS", 0.2)
    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    source = replace(registry.SOURCES["mnist"], mirrors=("http://mirror.invalid/",))
    with pytest.raises(DatasetUnavailableError, match="no response within 0 s"):
        download.fetch(source, list(source.files), tmp_path)  # returns while the name is still being resolved
    release.set()


def test_all_probes_together_take_less_than_ten_seconds() -> None:
    for source in registry.SOURCES.values():
        assert download.PROBE_SECONDS * len(source.mirrors) < 10
