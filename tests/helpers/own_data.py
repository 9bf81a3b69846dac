"""Data of one's own as files: images of three classes in every form that is read."""

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from mnist_jax.data.formats import idx

IMAGES = np.random.default_rng(0).integers(0, 256, (60, 28, 28), np.uint8)
LABELS = np.arange(60) % 3
PIXEL_NAMES = ",".join(f"pixel{i}" for i in range(784))


def table(path: Path, labels: Any = LABELS, images: Any = IMAGES, header: str | None = None) -> Path:
    rows = [
        ",".join([*([] if labels is None else [str(labels[i])]), *map(str, image.ravel().tolist())])
        for i, image in enumerate(images)
    ]
    path.write_text("\n".join([*([] if header is None else [header]), *rows]) + "\n")
    return path


def write_idx(folder: Path, **arrays: np.ndarray) -> None:
    folder.mkdir(exist_ok=True)
    for name, array in arrays.items():
        (folder / name.replace("__", ".").replace("_", "-")).write_bytes(idx.encode(array))


def picture_folder(folder: Path, count: int = 20, size: int = 28) -> Path:
    for index, name in enumerate(("one", "ten", "two")):
        (folder / name).mkdir(parents=True)
        for number in range(count):
            pixels = np.zeros((28, 28), np.uint8)
            pixels[4:24, 6 + 7 * index : 9 + 7 * index] = 255 - number
            Image.fromarray(pixels).resize((size, size)).save(folder / name / f"{number}.png")
    return folder
