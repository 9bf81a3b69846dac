"""The page to draw on, as the files of a folder that any static host can serve.

The network runs in the visitor's browser, in onnxruntime-web. Its three files come from npm, once, in a
pinned version with pinned sums, into the user's cache; at run time the page asks nobody but its own host.
"""

import hashlib
import json
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from onnx import ModelProto

from mnist_jax.errors import RuntimeUnavailableError
from mnist_jax.files import write_atomic
from mnist_jax.networks import Spec
from mnist_jax.store import cache_folder
from mnist_onnx.graph import to_onnx
from mnist_onnx.storage import OURS, describe

if TYPE_CHECKING:
    from mnist_jax.types import HeldOut

PAGE = Path(__file__).parent / "web"
RUNTIME = "onnxruntime-web@1.30.0"
SUMS = {
    "ort.wasm.min.mjs": "219e6a1fc8a9938268d18efca3c91d310bd2f4a59bbd13744df5b2b7fc6cee3b",
    "ort-wasm-simd-threaded.mjs": "e13f7f94fc51b4ca72b12faeb1ee95f4ace6dfbc8939bc718aabdc0a27c4299b",
    "ort-wasm-simd-threaded.wasm": "3398c10d07d229bd91b364548e130e0e51a8e5704b88c7c083ebbeb78842dee2",
}
SAMPLES = 200


def site(
    spec: Spec, params: Mapping[str, Any], facts: Mapping[str, str], test: "HeldOut | None"
) -> dict[str, bytes]:
    """All files of the page by their paths, for one network; its hidden layers are outputs, too.

    Args:
        spec: the network.
        params: its parameters.
        facts: what its file says of itself, its labels among it.
        test: where the page's random test digits come from.

    Raises:
        RuntimeUnavailableError: onnxruntime-web can't be had; says what to do.
    """
    more = {name: fact for name, fact in facts.items() if name not in OURS}
    model = to_onnx(spec, params, classes=json.loads(facts["labels"]), facts=more)
    data = with_hidden(model).SerializeToString(deterministic=True)
    files = {path.name: path.read_bytes() for path in sorted(PAGE.iterdir()) if path.is_file()}
    files |= {f"ort/{name}": data for name, data in runtime().items()}
    files |= samples(test)
    card = describe(model, "model.onnx", data)
    return files | {"model.onnx": data, "model.json": json.dumps(card).encode()}


def with_hidden(model: ModelProto) -> ModelProto:
    """The model with what comes out of each hidden layer as a further output."""
    taken = [node.input[0] for node in model.graph.node if node.op_type in ("Conv", "Flatten", "Gemm")]
    known = {"images", "scaled", "pixels"}  # pictures, and the last of them in one row
    more = ModelProto()
    more.CopyFrom(model)
    hidden = [name for name in dict.fromkeys(taken) if name.rpartition(".")[2] not in known]
    inner = {value.name: value for value in model.graph.value_info}
    more.graph.output.extend(inner[name] for name in hidden)
    del more.graph.value_info[:]
    more.graph.value_info.extend(value for name, value in inner.items() if name not in hidden)
    return more


def samples(test: "HeldOut | None") -> dict[str, bytes]:
    """Some digits of the test set, spread over all of it, with their places and labels."""
    count = 0 if test is None else len(test)
    indices = np.linspace(0, count - 1, min(SAMPLES, count)).astype(int) if count else np.zeros(0, int)
    images = np.asarray(test.images)[indices] if test is not None else np.zeros((0, 28, 28), np.uint8)
    labels = np.asarray(test.labels)[indices] if test is not None else indices
    listed = {"indices": indices.tolist(), "labels": labels.tolist()}
    return {"samples.bin": images.tobytes(), "samples.json": json.dumps(listed).encode()}


def runtime() -> dict[str, bytes]:
    """The files of onnxruntime-web, from the cache or, the first time, from npm.

    Raises:
        RuntimeUnavailableError: npm is missing or fails, or gives other files than those that are pinned.
    """
    folder = cache_folder() / "web" / RUNTIME
    cached = {name: _read(folder / name, expected) for name, expected in SUMS.items()}
    found = {name: data for name, data in cached.items() if data is not None}
    if len(found) < len(SUMS):
        found = _fetch()
        for name, data in found.items():
            if (came := hashlib.sha256(data).hexdigest()) != SUMS[name]:
                raise RuntimeUnavailableError(
                    f"{name} of {RUNTIME} must have sha256 {SUMS[name]}; got {came} from npm; ask why there"
                )
        folder.mkdir(parents=True, exist_ok=True)
        for name, data in found.items():
            write_atomic(folder / name, data)
    return found


def _read(path: Path, expected: str) -> bytes | None:
    """A cached file, if it is there and what it was."""
    try:
        data = path.read_bytes()
    except OSError:  # none, or none that can be read
        return None
    return data if hashlib.sha256(data).hexdigest() == expected else None


def _fetch() -> dict[str, bytes]:
    """Has npm bring the package, without installing it or running anything of it."""
    npm = shutil.which("npm")
    if npm is None:
        raise RuntimeUnavailableError(
            f"the page needs npm once, to fetch {RUNTIME}; it is not on this machine; install Node.js"
        )
    with tempfile.TemporaryDirectory() as folder:
        command = [npm, "pack", RUNTIME, "--silent", "--ignore-scripts", "--pack-destination", folder]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
        archives = list(Path(folder).glob("*.tgz"))
        if done.returncode or len(archives) != 1:
            said = " ".join((done.stderr or done.stdout).split())[:300] or "nothing"
            raise RuntimeUnavailableError(f"npm must be able to fetch {RUNTIME}; it says: {said}")
        try:
            with tarfile.open(archives[0]) as archive:  # of which nothing is unpacked but what is read here
                return {name: _member(archive, f"package/dist/{name}") for name in SUMS}
        except (tarfile.TarError, OSError, EOFError) as error:
            raise RuntimeUnavailableError(f"npm must bring {RUNTIME} whole; got {error}") from None


def _member(archive: tarfile.TarFile, name: str) -> bytes:
    try:
        file = archive.extractfile(name)
    except KeyError:
        file = None
    return b"" if file is None else file.read()
