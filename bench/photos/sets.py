"""The working set and the frozen set of photographs, of digits that no network was trained on."""

import hashlib
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from PIL import Image

from bench.photos.kinds import KINDS
from bench.photos.pages import Rows, page

# Photographs of each kind, pages, and the seed. The frozen set chooses nothing: it is scored at the end.
SIZES = {"working": (60, 40, 20261128), "frozen": (150, 100, 20261129)}
# Over all pixels (`digest`), with NumPy 2.5.5 and Pillow 13.0.0. Fixed before any of them was read.
SHA256 = {
    "working": "96ebba299b2e9fa252ecff5d6d2968f5dcdfdfb919cd8d3aa2044003f89fb648",
    "frozen": "bf508892bcf6a9741ddd09db7a2575fe8df3c2c118bc7de40be2e7f72282c5b9",
}


class Photograph(NamedTuple):
    """A photograph of one digit.

    Attributes:
        kind: a key of `KINDS`.
        digit: its index among those given.
        picture: as `preprocess.read` returns one.
    """

    kind: str
    digit: int
    picture: Image.Image


def photographs(name: str, images: np.ndarray, copies: int | None = None) -> Iterator[Photograph]:
    """The photographs of a set, in a fixed order.

    Args:
        name: "working" or "frozen"; they share no digit.
        images: uint8 `[10000, 28, 28]`, MNIST's last 10,000 training images.
        copies: photographs of each kind, the first ones; None for all.
    """
    each, _, seed = SIZES[name]
    order = digits(name, len(images))
    for number, (kind, make) in enumerate(KINDS.items()):
        for copy in range(each if copies is None else copies):
            rng = np.random.default_rng([seed, number, copy])
            digit = int(order[(number * each + copy) % len(order)])
            yield Photograph(kind, digit, make(images[digit], rng))


def pages(name: str, images: np.ndarray) -> Iterator[tuple[Image.Image, Rows]]:
    """The pages of a set, in a fixed order, and the indices of their digits."""
    _, count, seed = SIZES[name]
    order = digits(name, len(images))
    for number in range(count):
        rng = np.random.default_rng([seed, 1000, number])
        yield page(images, rng.permutation(order), rng)


def digits(name: str, count: int) -> np.ndarray:
    """The indices of a set's digits, shuffled: even ones for work, odd ones frozen."""
    return np.random.default_rng(SIZES[name][2]).permutation(np.arange(list(SIZES).index(name), count, 2))


def digest(name: str, images: np.ndarray) -> str:
    """The SHA-256 over the pixels of a whole set."""
    total = hashlib.sha256()
    for one in photographs(name, images):
        total.update(f"{one.kind} {one.digit} {one.picture.mode} {one.picture.size}".encode())
        total.update(one.picture.tobytes())
    for picture, rows in pages(name, images):
        total.update(f"{rows} {picture.size}".encode())
        total.update(picture.tobytes())
    return total.hexdigest()
