"""The files of the drawing page, for any static host.

The network runs in the visitor's browser, in onnxruntime-web. npm downloads its three files once, in a pinned
version with pinned checksums, into the user's cache. The page makes no third-party requests.
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

from mnist_jax._utils.atomic_io import write_atomic
from mnist_jax._utils.cache_dir import cache_dir
from mnist_jax.config.networks import IMAGE_SHAPE, Spec
from mnist_jax.errors import RuntimeUnavailableError
from mnist_onnx.export import to_onnx
from mnist_onnx.io import OURS, describe

if TYPE_CHECKING:
    from mnist_jax.data.examples import TestSet

    pass

PAGE = Path(__file__).parent / "webapp"
RUNTIME = "onnxruntime-web@1.30.0"
SUMS = {
    "ort.wasm.min.mjs": "219e6a1fc8a9938268d18efca3c91d310bd2f4a59bbd13744df5b2b7fc6cee3b",
    "ort-wasm-simd-threaded.mjs": "e13f7f94fc51b4ca72b12faeb1ee95f4ace6dfbc8939bc718aabdc0a27c4299b",
    "ort-wasm-simd-threaded.wasm": "3398c10d07d229bd91b364548e130e0e51a8e5704b88c7c083ebbeb78842dee2",
}
NUM_SAMPLES = 200


def site(
    spec: Spec, params: Mapping[str, Any], metadata: Mapping[str, str], test: "TestSet | None"
) -> dict[str, bytes]:
    """Makes the page for one network; its model has the hidden layers as further outputs.

    Args:
        spec: the network.
        params: its parameters.
        metadata: the metadata of its file, with its labels.
        test: the test set that random test digits come from; None for a page without them.

    Returns:
        The content of each file by its path in the page's folder.

    Raises:
        RuntimeUnavailableError: onnxruntime-web cannot be downloaded.
    """
    extra = {key: value for key, value in metadata.items() if key not in OURS}
    model = to_onnx(spec, params, classes=json.loads(metadata["labels"]), metadata=extra)
    data = with_hidden(model).SerializeToString(deterministic=True)
    files = {path.name: path.read_bytes() for path in sorted(PAGE.iterdir()) if path.is_file()}
    files |= {f"ort/{name}": data for name, data in runtime().items()}
    files |= samples(test)
    card = describe(model, "model.onnx", data)
    return files | {"model.onnx": data, "model.json": json.dumps(card).encode()}


def with_hidden(model: ModelProto) -> ModelProto:
    """Copies a model and adds the output of each hidden layer to its outputs."""
    inputs = [node.input[0] for node in model.graph.node if node.op_type in ("Conv", "Flatten", "Gemm")]
    not_hidden = {"images", "scaled", "pixels"}  # the images, scaled and flattened
    extended = ModelProto()
    extended.CopyFrom(model)
    hidden = [name for name in dict.fromkeys(inputs) if name.rpartition(".")[2] not in not_hidden]
    inner = {value.name: value for value in model.graph.value_info}
    extended.graph.output.extend(inner[name] for name in hidden)
    del extended.graph.value_info[:]
    extended.graph.value_info.extend(value for name, value in inner.items() if name not in hidden)
    return extended


def samples(test: "TestSet | None") -> dict[str, bytes]:
    """The page's test digits: images evenly spaced over the test set, with their indices and labels."""
    count = 0 if test is None else len(test)
    indices = np.linspace(0, count - 1, min(NUM_SAMPLES, count)).astype(int) if count else np.zeros(0, int)
    images = np.asarray(test.images)[indices] if test is not None else np.zeros((0, *IMAGE_SHAPE), np.uint8)
    labels = np.asarray(test.labels)[indices] if test is not None else indices
    listed = {"indices": indices.tolist(), "labels": labels.tolist()}
    return {"samples.bin": images.tobytes(), "samples.json": json.dumps(listed).encode()}


def runtime() -> dict[str, bytes]:
    """The files of onnxruntime-web by name, from the cache or, the first time, from npm.

    Raises:
        RuntimeUnavailableError: npm is missing or fails, or a checksum does not match.
    """
    folder = cache_dir() / "web" / RUNTIME
    cached = {name: _read(folder / name, expected) for name, expected in SUMS.items()}
    files = {name: data for name, data in cached.items() if data is not None}
    if len(files) < len(SUMS):
        files = _fetch()
        for name, data in files.items():
            if (digest := hashlib.sha256(data).hexdigest()) != SUMS[name]:
                raise RuntimeUnavailableError(
                    f"{name} of {RUNTIME} must have sha256 {SUMS[name]}; got {digest} from npm; "
                    "checksum mismatch: do not use this download"
                )
        folder.mkdir(parents=True, exist_ok=True)
        for name, data in files.items():
            write_atomic(folder / name, data)
    return files


def _read(path: Path, expected: str) -> bytes | None:
    """The content of a cached file; None if it cannot be read or its checksum does not match."""
    try:
        data = path.read_bytes()
    except OSError:
        return None
    return data if hashlib.sha256(data).hexdigest() == expected else None


def _fetch() -> dict[str, bytes]:
    """Downloads the package with npm, without installing it or running its scripts."""
    npm = shutil.which("npm")
    if npm is None:
        raise RuntimeUnavailableError(
            f"the page needs npm once, to download {RUNTIME}; npm is not on this machine; install Node.js"
        )
    with tempfile.TemporaryDirectory() as folder:
        command = [npm, "pack", RUNTIME, "--silent", "--ignore-scripts", "--pack-destination", folder]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
        archives = list(Path(folder).glob("*.tgz"))
        if done.returncode or len(archives) != 1:
            message = " ".join((done.stderr or done.stdout).split())[:300] or "none"
            raise RuntimeUnavailableError(f"npm must be able to download {RUNTIME}; its error: {message}")
        try:
            with tarfile.open(archives[0]) as archive:  # read in memory, nothing is unpacked
                return {name: _member(archive, f"package/dist/{name}") for name in SUMS}
        except (tarfile.TarError, OSError, EOFError) as error:
            raise RuntimeUnavailableError(f"npm must download {RUNTIME} completely; got {error}") from None


def _member(archive: tarfile.TarFile, name: str) -> bytes:
    try:
        file = archive.extractfile(name)
    except KeyError:
        file = None
    return b"" if file is None else file.read()
