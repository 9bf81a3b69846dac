"""JAX at its strictest, no network, no cache but the tests' own, and the data sets that tests share."""

import gzip
import hashlib
import os
import shutil
import socket
import subprocess
import sys
import sysconfig
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

# Read when JAX starts. Half of the tests' time is compiling: LLVM does not optimize, unless XLA_FLAGS says
# how much, as the nightly suite does. Several devices on the CPU, so that a wrong assumption of one shows.
os.environ["XLA_FLAGS"] = (
    f"--xla_backend_optimization_level=0 {os.environ.get('XLA_FLAGS', '')} "
    "--xla_force_host_platform_device_count=8"
)

import hypothesis
import jax
import jaxtyping
import numpy as np
import pytest
from helpers.paths import KEPT, ROOT

from mnist_jax.cli import main
from mnist_jax.config.networks import MLP
from mnist_jax.config.training import Config
from mnist_jax.data import registry
from mnist_jax.data.datasets import Dataset, load
from mnist_jax.data.formats import idx
from mnist_jax.errors import RuntimeUnavailableError
from mnist_jax.training.loop import fit
from mnist_jax.training.records import FitResult

# What a test takes depends on the machine: no example fails for being slow.
hypothesis.settings.register_profile("no-deadline", deadline=None)
hypothesis.settings.load_profile("no-deadline")

jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_legacy_prng_key", "error")

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@pytest.fixture(autouse=True, scope="session")
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A cache folder of the tests' own; the user's data folder only where a test asks for it."""
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("cache")
        patch.setenv("XDG_CACHE_HOME", str(folder))
        patch.delenv("MNIST_JAX_DATA_DIR", raising=False)
        yield folder / "mnist-jax"


@pytest.fixture(autouse=True, scope="module")
def few_programs() -> Iterator[None]:
    """The tests compile thousands of programs, and JAX crashes at Linux's limit of 65,530 memory maps."""
    yield
    maps = Path("/proc/self/maps")
    if maps.exists() and maps.read_text().count("\n") > 20_000:
        jax.clear_caches()


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Connections leave this machine for nobody."""
    connect, resolve = socket.socket.connect, socket.getaddrinfo

    def guarded_connect(self: socket.socket, address: object) -> None:
        if self.family != socket.AF_UNIX and not str(address[0]).startswith("127."):
            raise OSError("the tests have no network")
        connect(self, address)

    def guarded_resolve(host: object, *args: object, **kwargs: object) -> object:
        if host not in ("127.0.0.1", "localhost"):
            raise socket.gaierror("the tests have no network")
        return resolve(host, *args, **kwargs)

    monkeypatch.setattr(socket.socket, "connect", guarded_connect)
    monkeypatch.setattr(socket, "getaddrinfo", guarded_resolve)


@pytest.fixture(scope="session")
def digits() -> Dataset:
    return load("digits")


@pytest.fixture(scope="session")
def trained(digits: Dataset) -> tuple[Config, FitResult]:
    """A small network that has learned something."""
    config = Config(MLP((50, 50), ("relu", "relu")), epochs=8)
    return config, fit(config, digits.train, digits.validation, key=jax.random.key(0))


@pytest.fixture
def fake_mnist(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, digits: Dataset) -> Path:
    """A folder with `digits` as MNIST's four files, pinned for the test; and an empty cache."""
    folder = tmp_path / "data"
    folder.mkdir()
    assert digits.validation is not None
    images = np.concatenate([digits.train.images, digits.validation.images])
    labels = np.concatenate([digits.train.labels, digits.validation.labels])
    files = []
    arrays = (images, labels, digits.test.images, digits.test.labels)
    for file, array in zip(registry.SOURCES["mnist"].files, arrays, strict=True):
        raw = idx.encode(np.asarray(array))
        zipped = gzip.compress(raw, mtime=0)
        (folder / f"{file.name}.gz").write_bytes(zipped)
        sums = hashlib.sha256(zipped).hexdigest(), hashlib.sha256(raw).hexdigest()
        files.append(replace(file, size=len(zipped), sha256=sums[0], raw_sha256=sums[1]))
    source = replace(registry.SOURCES["mnist"], files=tuple(files), mirrors=("http://127.0.0.1:9/",))
    monkeypatch.setitem(registry.SOURCES, "mnist", source)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return folder


@pytest.fixture(scope="session")
def mnist_dir() -> Path:
    """The folder with the real MNIST, or a skip that says why."""
    named = os.environ.get("MNIST_JAX_TEST_DATA_DIR")
    if named:
        return (ROOT / named).resolve()
    pytest.skip("real MNIST: set MNIST_JAX_DATA_DIR to the folder with its four files")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks tests by what they need."""
    needs = {"mnist_dir": "real_data", "browser": "browser", "page_files": "browser"}
    for item in items:
        for fixture in getattr(item, "fixturenames", ()):
            if fixture in needs:
                item.add_marker(needs[fixture])


def pytest_configure() -> None:
    # Kept under another name, since tests run without the variable that the library reads.
    if named := os.environ.get("MNIST_JAX_DATA_DIR"):
        os.environ["MNIST_JAX_TEST_DATA_DIR"] = named


@pytest.fixture
def unchecked() -> Iterator[None]:
    """Switches the tests' own checks of array types off, to see what users see."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


@pytest.fixture
def strict_dtypes() -> Iterator[None]:
    """No implicit promotion: our own arithmetic states its dtypes."""
    with jax.numpy_dtype_promotion("strict"):
        yield


@pytest.fixture(scope="session")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The `bin` folder of an environment that has the wheel, and of the checkout nothing.

    It borrows the packages that the wheel depends on from the environment that runs the tests, so that
    nothing is downloaded.
    """
    folder = tmp_path_factory.mktemp("installed")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)],
        cwd=ROOT, check=True, capture_output=True,
    )  # fmt: skip
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder / "venv")], check=True)
    (wheel,) = folder.glob("*.whl")
    scripts = folder / "venv" / ("Scripts" if os.name == "nt" else "bin")
    pip = [sys.executable, "-m", "pip", "--python", str(scripts / "python"), "--quiet", "--no-input"]
    subprocess.run([*pip, "install", "--no-deps", "--no-index", str(wheel)], check=True)
    code = "import sysconfig; print(sysconfig.get_path('purelib'))"
    own = subprocess.run(
        [scripts / "python", "-c", code], check=True, capture_output=True, text=True
    ).stdout.strip()
    (Path(own) / "borrowed.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return scripts


@pytest.fixture(scope="session")
def run_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run on `digits`, to be looked at and not to be changed."""
    folder = tmp_path_factory.mktemp("cli") / "run"
    assert (
        main(["train", "--dataset", "digits", "--preset", "mlp-100", "--epochs", "3", "--out", str(folder)])
        == 0
    )
    return folder


@pytest.fixture(scope="session")
def page_files(run_dir: Path) -> dict[str, bytes]:
    """The page's files; skips where npm can't bring its runtime, and fails in CI, where it must."""
    from mnist_jax.cli.web import page
    from mnist_onnx import webapp_files

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(webapp_files, "cache_dir", lambda: KEPT)
        try:
            return page(run_dir, None)
        except RuntimeUnavailableError as error:
            if os.environ.get("CI") == "true":
                raise
            pytest.skip(str(error))


@pytest.fixture(scope="session")
def address(page_files: dict[str, bytes]) -> Iterator[str]:
    from mnist_onnx.webapp_server import Server, handler

    server = Server(("127.0.0.1", 0), handler(page_files))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="session")
def home_with_kept_files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache folder for other processes, with what has been kept."""
    KEPT.mkdir(exist_ok=True)
    home = tmp_path_factory.mktemp("home")
    (home / "mnist-jax").symlink_to(KEPT)
    return home


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """A real browser, headless; skips where there is none, and fails in CI, where it must be."""
    if CHROMIUM is None:
        assert os.environ.get("CI") != "true", "CI needs Chromium"
        pytest.skip("Chromium: install it (Debian's package chromium)")
    from playwright.sync_api import sync_playwright

    flags = ["--no-sandbox", "--disable-background-networking", "--disable-component-update"]
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=CHROMIUM, args=flags)
        yield started
        started.close()
