"""Downloads through the download manager of tensorflow-datasets, with strict timeouts.

On its own, the manager retries for minutes without a network and waits forever for a stalled server.
Therefore each mirror is probed first, and the manager runs in a child process (this module run as a script)
that is killed when no more data arrives. The child process also keeps the imports, progress bars and settings
of tensorflow-datasets out of the caller's process.
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

from mnist_jax.data.registry import File, Source
from mnist_jax.errors import DatasetUnavailableError

PROBE_SECONDS = 4.0  # per mirror; two mirrors stay below ten seconds
STALL_SECONDS = 20.0
LIMIT_SECONDS = 600.0
STARTED = "started"  # marker file: the child has finished its imports, which are slow on a busy machine


def fetch(source: Source, files: list[File], folder: Path) -> None:
    """Download `files` as `.gz` into `folder`, each complete and with its pinned checksum, or none of them.

    Several processes may download at the same time: each uses its own temporary folder and renames the
    finished files.

    Args:
        source: the data set with its mirrors.
        files: the files of the data set to download.
        folder: an existing folder.

    Raises:
        DatasetUnavailableError: if no mirror delivers the files; says what was tried.
    """
    tried = []
    for mirror in source.mirrors:
        with tempfile.TemporaryDirectory(dir=folder, prefix=".fetch-") as scratch:
            problem = _probe(mirror + files[0].name + ".gz") or _download(mirror, files, Path(scratch))
            if problem is None:
                for file in files:
                    (Path(scratch) / f"{file.name}.gz").replace(folder / f"{file.name}.gz")
                return
        tried.append(f"{mirror} ({problem})")
    raise DatasetUnavailableError(f"no mirror delivered it: tried {', '.join(tried)}")


def _probe(url: str) -> str | None:
    """Why `url` is not reachable, or None if its server responds."""
    outcome: list[str | None] = []

    def request() -> None:
        try:
            with urllib.request.urlopen(urllib.request.Request(url, method="HEAD"), timeout=PROBE_SECONDS):
                outcome.append(None)
        except urllib.error.HTTPError as error:
            outcome.append(f"HTTP {error.code}")
        except urllib.error.URLError as error:
            outcome.append(str(error.reason))
        except (OSError, ValueError, http.client.HTTPException) as error:
            outcome.append(f"invalid response: {' '.join(str(error).split()) or type(error).__name__}")

    # Name resolution has no timeout, so it runs in a thread that can be abandoned.
    thread = Thread(target=request, daemon=True)
    thread.start()
    thread.join(PROBE_SECONDS)
    return outcome[0] if outcome else f"no response within {PROBE_SECONDS:.0f} s"


def _download(mirror: str, files: list[File], scratch: Path) -> str | None:
    """Run the child process; return why it failed, or None with the files in `scratch`."""
    checksums = {mirror + file.name + ".gz": (file.size, file.sha256) for file in files}
    with (scratch / "log").open("w+") as log:
        child = subprocess.Popen(
            [sys.executable, "-m", "mnist_jax.data.download", str(scratch), json.dumps(checksums)],
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
    """Wait for the child process while data arrives; return why waiting ended early, or None."""
    start = progress = time.monotonic()
    size = 0
    while child.poll() is None:
        time.sleep(0.05)
        now = time.monotonic()
        if (received := _folder_size(scratch)) != size or not (scratch / STARTED).exists():
            size, progress = received, now
        if now - progress > STALL_SECONDS:
            return f"no data for {STALL_SECONDS:.0f} s"
        if now - start > LIMIT_SECONDS:
            return f"not finished after {LIMIT_SECONDS:.0f} s"
    return None


def _folder_size(folder: Path) -> int:
    total = 0
    for path in folder.rglob("*"):
        try:
            total += path.stat().st_size
        except OSError:  # renamed in the meantime
            continue
    return total


def _child(scratch: Path, checksums: dict[str, tuple[int, str]]) -> None:
    """In the child process: download each URL to a file of the same name in `scratch`."""
    import tensorflow_datasets as tfds

    (scratch / STARTED).touch()
    infos = {
        url: tfds.download.checksums.UrlInfo(size=size, checksum=sha256, filename=Path(url).name)
        for url, (size, sha256) in checksums.items()
    }
    manager = tfds.download.DownloadManager(
        download_dir=scratch / "tfds", url_infos=infos, force_checksums_validation=True
    )
    for url, path in manager.download({url: url for url in checksums}).items():
        Path(path).replace(scratch / Path(url).name)


if __name__ == "__main__":
    try:
        _child(Path(sys.argv[1]), json.loads(sys.argv[2]))
    except Exception as error:
        sys.exit(" ".join(str(error).split()) or type(error).__name__)
