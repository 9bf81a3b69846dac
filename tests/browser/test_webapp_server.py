"""The page's files: HTTP server, export to a folder, download of onnxruntime-web by npm."""

import http.client
import json
import os
import re
import shutil
import signal
import socket
import struct
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.paths import KEPT

from mnist_jax.cli import main
from mnist_jax.cli.web import page
from mnist_jax.data import datasets
from mnist_jax.errors import MnistJaxError, RuntimeUnavailableError
from mnist_jax.runs import directory
from mnist_onnx import load, save, to_onnx, webapp_files
from mnist_onnx.webapp_server import HEADERS


def test_only_the_pages_files_are_served(address: str, page_files: dict[str, bytes]) -> None:
    def request(path: str, method: str = "GET", **headers: str) -> tuple[http.client.HTTPResponse, bytes]:
        connection = http.client.HTTPConnection(address)
        connection.request(method, path, headers=headers)
        response = connection.getresponse()
        data = response.read()
        connection.close()
        return response, data

    for path in ("/", "/index.html", "/app.js?x=1", "/model.onnx", "/ort/ort-wasm-simd-threaded.wasm"):
        response, data = request(path)
        assert response.status == 200
        assert data == page_files[path.partition("?")[0].removeprefix("/") or "index.html"]
        for name, value in HEADERS.items():
            assert response.headers[name] == value
    assert request("/app.js")[0].headers["Content-Type"] == "text/javascript; charset=utf-8"
    assert request("/ort/ort-wasm-simd-threaded.wasm")[0].headers["Content-Type"] == "application/wasm"
    response, data = request("/model.onnx", "HEAD")
    assert (response.status, data) == (200, b"")
    for path in (
        "/ort/",
        "/ort",
        "/../pyproject.toml",
        "/ort/../../x",
        "/%2e%2e/x",
        "//etc/passwd",
        "/config.json",
    ):
        assert request(path)[0].status == 404
    assert request("/", Host="evil.example")[0].status == 421
    assert request("/", "POST")[0].status == 501
    assert "unsafe-inline" not in HEADERS["Content-Security-Policy"]


def test_web_writes_a_folder_for_static_hosts(
    run_dir: Path,
    page_files: dict[str, bytes],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(webapp_files, "cache_dir", lambda: KEPT)
    out = tmp_path / "site"
    for _ in range(2):
        assert main(["web", str(run_dir), "--out", str(out)]) == 0
        written = {str(path.relative_to(out)): path.read_bytes() for path in out.rglob("*") if path.is_file()}
        assert written == page_files
    (out / ".app.js.0a1b2c3d").write_text("half")  # as a killed process leaves them
    (out / "ort" / f".{next(iter(webapp_files.SUMS))}.ffffffff").write_text("half")
    assert main(["web", str(run_dir), "--out", str(out)]) == 0
    assert {str(path.relative_to(out)) for path in out.rglob("*") if path.is_file()} == set(page_files)
    for name in (".diary.txt.0a1b2c3d", "ort/.app.js.0a1b2c3d"):  # files that web did not write
        (out / name).write_text("mine")
        assert main(["web", str(run_dir), "--out", str(out)]) == 2
        assert f"holds {Path(name).name}" in capsys.readouterr().err
        (out / name).unlink()
    (out / "diary.txt").write_text("mine")
    assert main(["web", str(run_dir), "--out", str(out)]) == 2
    assert "must be a new directory, or one written by web" in capsys.readouterr().err
    assert main(["web", str(run_dir), "--out", str(out / "diary.txt")]) == 2
    export = tmp_path / "export"
    export.mkdir()
    assert main(["export", str(run_dir), "--out", str(export / "model.onnx")]) == 0
    assert main(["web", str(run_dir), "--out", str(export)]) == 2
    assert sorted(path.name for path in export.iterdir()) == ["model.json", "model.onnx"]
    assert main(["serve", str(run_dir), "--port", "70000"]) == 2
    assert "--port must be a whole number from 0 to 65535; got 70000" in capsys.readouterr().err


@pytest.mark.slow
def test_serve_prints_its_address_and_exits_cleanly(
    run_dir: Path, page_files: dict[str, bytes], home_with_kept_files: Path
) -> None:
    command = [sys.executable, "-m", "mnist_jax.cli", "serve", str(run_dir), "--no-browser"]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "XDG_CACHE_HOME": str(home_with_kept_files)},
    )  # fmt: skip
    assert process.stdout is not None
    line = process.stdout.readline()
    assert re.fullmatch(r"http://127\.0\.0\.1:\d+/\n", line)
    connection = http.client.HTTPConnection(line.removeprefix("http://").rstrip("/\n"))
    connection.request("GET", "/model.json")
    assert connection.getresponse().read() == page_files["model.json"]
    connection.close()
    busy = subprocess.run(
        [*command, "--port", line.rsplit(":")[-1].rstrip("/\n")], capture_output=True, text=True, check=False,
        env={**os.environ, "XDG_CACHE_HOME": str(home_with_kept_files)},
    )  # fmt: skip
    assert (busy.returncode, busy.stdout) == (2, "")
    assert re.fullmatch(r"mnist-jax: --port must be free; \d+: Address already in use\n", busy.stderr)
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate()
    assert process.returncode == 0
    assert "Traceback" not in stderr


def test_the_page_shows_probabilities_for_every_export_format(
    run_dir: Path, page_files: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webapp_files, "cache_dir", lambda: KEPT)
    copy = tmp_path / "run"
    shutil.copytree(run_dir, copy)
    logits = ["--output", "logits", "--input", "float32", "--out", str(copy / "model.onnx")]
    assert main(["export", str(copy), *logits]) == 0
    assert page(copy, None)["model.onnx"] == page_files["model.onnx"]


def test_the_page_can_be_made_from_a_file_alone(
    run_dir: Path,
    page_files: dict[str, bytes],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(webapp_files, "cache_dir", lambda: KEPT)
    path = tmp_path / "digits.onnx"
    shutil.copy(run_dir / directory.MODEL, path)
    assert page(path, None) == page_files
    spec, params = load(path)
    known = {"dataset": "digits", "dataset_sha256": datasets.load("digits").sha256}
    for metadata, samples in (({}, 0), (known, 200)):
        save(to_onnx(spec, params, metadata=metadata), path)
        assert len(json.loads(page(path, None)["samples.json"])["labels"]) == samples
    for name, message in (("digits", "digits must have sha256 0, as its file says; got"),):
        save(to_onnx(spec, params, metadata={"dataset": name, "dataset_sha256": "0"}), path)
        with pytest.raises(MnistJaxError, match=message):
            page(path, None)
    save(to_onnx(spec, params, metadata={"dataset": "../etc", "dataset_sha256": "0"}), path)
    assert json.loads(page(path, None)["samples.json"])["labels"] == []
    assert "../etc is data of its own; give its run, in place of the file" in capsys.readouterr().err


def test_a_client_that_disconnects_is_no_error(address: str, capsys: pytest.CaptureFixture[str]) -> None:
    host, port = address.split(":")
    for _ in range(3):
        with socket.create_connection((host, int(port))) as connection:
            connection.setsockopt(
                socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)
            )  # the close resets the connection
            path = "/ort/ort-wasm-simd-threaded.wasm"
            connection.sendall(f"GET {path} HTTP/1.1\r\nHost: {address}\r\n\r\n".encode())
            connection.recv(1000)
    connection = http.client.HTTPConnection(address)
    connection.request("GET", "/")
    assert connection.getresponse().status == 200
    connection.close()
    assert capsys.readouterr().err == ""


def test_files_from_npm_are_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webapp_files, "cache_dir", lambda: tmp_path)
    monkeypatch.setattr(webapp_files, "_fetch", lambda: dict.fromkeys(webapp_files.SUMS, b"another"))
    with pytest.raises(RuntimeUnavailableError, match=r"must have sha256 219e6a1f.*; got .* from npm"):
        webapp_files.runtime()
    assert not list(tmp_path.rglob("*.mjs"))
    monkeypatch.undo()
    monkeypatch.setattr(webapp_files, "cache_dir", lambda: tmp_path)
    monkeypatch.setenv("PATH", "")
    with pytest.raises(
        RuntimeUnavailableError, match=r"needs npm once, to download onnxruntime-web@.*; install"
    ):
        webapp_files.runtime()


def test_a_damaged_file_in_the_cache_is_downloaded_again(
    page_files: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webapp_files, "cache_dir", lambda: tmp_path)
    monkeypatch.setattr(
        webapp_files, "_fetch", lambda: {name: page_files[f"ort/{name}"] for name in webapp_files.SUMS}
    )
    expected = webapp_files.runtime()
    for path in tmp_path.rglob("*.mjs"):
        path.write_bytes(b"damaged")
    assert webapp_files.runtime() == expected
    monkeypatch.setattr(webapp_files, "_fetch", lambda: pytest.fail("fetched"))
    assert webapp_files.runtime() == expected
