"""What every rival says and hears: one JSON line when it is ready, then one for each line that it is told."""

import json
import sys
import time
from collections.abc import Callable
from typing import NamedTuple

import numpy as np


class Network(NamedTuple):
    """Convolutions of `channels`, each with ReLU and 2x2 pooling, where there are any; then dense layers."""

    dense: tuple[int, ...]
    channels: tuple[int, ...] = ()
    kernel: int = 0
    padding: tuple[str, ...] = ()
    pool: str = ""


def spec(network: Network) -> object:
    """The network as mnist-jax's own."""
    import mnist_jax

    if network.channels:
        return mnist_jax.CNN(network.channels, network.kernel, network.pool, network.dense, network.padding)
    return mnist_jax.MLP(network.dense, ("relu",) * len(network.dense))


def load() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, Network, int]:
    """Training images and labels, test images and labels, as uint8; the network; the batch size."""
    with np.load(sys.argv[1]) as data:
        arrays = data["train_images"], data["train_labels"], data["test_images"], data["test_labels"]
        return *arrays, Network(**json.loads(str(data["network"]))), int(data["batch_size"])


def serve(
    versions: dict[str, str],
    epoch: Callable[[], object],
    answer: Callable[[np.ndarray], np.ndarray],
    images: np.ndarray,
    labels: np.ndarray,
) -> None:
    """Trains an epoch, scores the test set, or times answers to it, as each line that comes in says.

    `answer` takes images `[batch, 28, 28]`, uint8, and gives ten numbers for each.
    """
    say({"versions": versions})
    for line in sys.stdin:
        if line.strip() == "epoch":
            say({"seconds": timed(epoch)})
        elif line.strip() == "score":
            found = [answer(images[i : i + 1000]).argmax(-1) for i in range(0, len(images), 1000)]
            say({"accuracy": float((np.concatenate(found) == labels).mean())})
        else:
            size, calls = json.loads(line)
            starts = [call * size % (len(images) - size + 1) for call in range(calls)]
            say({"seconds": [timed(answer, images[start : start + size]) for start in starts]})


def timed(run: Callable[..., object], *arguments: object) -> float:
    """Seconds of a call."""
    start = time.perf_counter()
    run(*arguments)
    return time.perf_counter() - start


def say(value: object) -> None:
    """One line, at once."""
    print(json.dumps(value), file=OUT, flush=True)


# Frameworks print on stdout what they please; the answers keep it for themselves.
OUT, sys.stdout = sys.stdout, sys.stderr
