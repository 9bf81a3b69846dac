"""Downloads through tensorflow-datasets' download manager, kept on a short lead.

Left alone, the manager retries for minutes when there is no network and waits for ever on a stalled
server. So each mirror is probed first, and the manager runs in a child process (this file, run as
a module) that is ended when bytes stop arriving. The child also keeps its import, its progress bars
and its settings out of the caller's process.
"""

import http.client
import json
import os
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path
from threading import Thread

from mnist_jax.errors import DatasetUnavailableError
from mnist_jax.sources import File, Source

PROBE_SECONDS = 4.0  # for each mirror; two of them stay under ten seconds
STALL_SECONDS = 20.0
LIMIT_SECONDS = 600.0
STARTED = (
    "started"  # a file that says that the child has its imports behind it, which a busy machine draws out
)


def fetch(source: Source, wanted: list[File], folder: Path) -> None:
    """Downloads `wanted` as `.gz` files into `folder`, each whole and with its pinned sum, or not at all.

    Several processes may do so at once: each works in a folder of its own and renames what it has.

    Raises:
        DatasetUnavailableError: no mirror delivered; says what was tried.
    """
    tried = []
    for mirror in source.mirrors:
        with tempfile.TemporaryDirectory(dir=folder, prefix=".fetch-") as scratch:
            problem = _unreachable(mirror + wanted[0].name + ".gz") or _download(
                mirror, wanted, Path(scratch)
            )
            if problem is None:
                for file in wanted:
                    (Path(scratch) / f"{file.name}.gz").replace(folder / f"{file.name}.gz")
                return
        tried.append(f"{mirror} ({problem})")
    raise DatasetUnavailableError(f"no mirror delivered it: tried {', '.join(tried)}")


def _unreachable(url: str) -> str | None:
    """Why `url` cannot be had, or None where its server answers."""
    outcome: list[str | None] = []

    def probe() -> None:
        try:
            with urllib.request.urlopen(urllib.request.Request(url, method="HEAD"), timeout=PROBE_SECONDS):
                outcome.append(None)
        except urllib.error.HTTPError as error:
            outcome.append(f"HTTP {error.code}")
        except urllib.error.URLError as error:
            outcome.append(str(error.reason))
        except (OSError, ValueError, http.client.HTTPException) as error:
            outcome.append(f"no proper answer: {' '.join(str(error).split()) or type(error).__name__}")

    # Looking up a name has no timeout of its own, so it is done where it can be left behind.
    thread = Thread(target=probe, daemon=True)
    thread.start()
    thread.join(PROBE_SECONDS)
    return outcome[0] if outcome else f"no answer within {PROBE_SECONDS:.0f} s"


def _download(mirror: str, wanted: list[File], scratch: Path) -> str | None:
    """Runs the child; returns why it failed, or None with the files in `scratch`."""
    order = {mirror + file.name + ".gz": (file.size, file.sha256) for file in wanted}
    with (scratch / "log").open("w+") as log:
        child = subprocess.Popen(
            [sys.executable, "-m", "mnist_jax.fetch", str(scratch), json.dumps(order)],
            env={**os.environ, "TQDM_DISABLE": "1"},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
        try:
            if stalled := _watch(child, scratch):
                return stalled
        finally:
            child.kill()
            child.wait()
        if child.returncode != 0:
            log.seek(0)
            return (log.read().strip().splitlines() or [f"exit status {child.returncode}"])[-1]
    return None


def _watch(child: subprocess.Popen[bytes], scratch: Path) -> str | None:
    """Waits for the child's end as long as bytes arrive."""
    start = progress = time.monotonic()
    size = 0
    while child.poll() is None:
        time.sleep(0.05)
        now = time.monotonic()
        if (arrived := _bytes_below(scratch)) != size or not (scratch / STARTED).exists():
            size, progress = arrived, now
        if now - progress > STALL_SECONDS:
            return f"nothing arrived for {STALL_SECONDS:.0f} s"
        if now - start > LIMIT_SECONDS:
            return f"not done after {LIMIT_SECONDS:.0f} s"
    return None


def _bytes_below(folder: Path) -> int:
    total = 0
    for path in folder.rglob("*"):
        try:
            total += path.stat().st_size
        except OSError:  # renamed while we looked
            continue
    return total


def _child(scratch: Path, order: dict[str, tuple[int, str]]) -> None:
    """In the child process: downloads each address and puts the file under its own name in `scratch`."""
    import tensorflow_datasets as tfds

    (scratch / STARTED).touch()
    infos = {
        url: tfds.download.checksums.UrlInfo(size=size, checksum=sha256, filename=Path(url).name)
        for url, (size, sha256) in order.items()
    }
    manager = tfds.download.DownloadManager(
        download_dir=scratch / "tfds", url_infos=infos, force_checksums_validation=True
    )
    for url, path in manager.download({url: url for url in order}).items():
        Path(path).replace(scratch / Path(url).name)


if __name__ == "__main__":
    try:
        _child(Path(sys.argv[1]), json.loads(sys.argv[2]))
    except Exception as error:
        sys.exit(" ".join(str(error).split()) or type(error).__name__)
