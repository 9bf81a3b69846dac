"""The protocol of all baselines: one JSON line when ready, then one JSON line per line of input."""

import json
import sys
import time
from collections.abc import Callable
from typing import NamedTuple

import numpy as np


class Network(NamedTuple):
    """A network: convolutions, each with ReLU and 2x2 pooling, if there are `channels`; then dense layers."""

    dense: tuple[int, ...]
    channels: tuple[int, ...] = ()
    kernel: int = 0
    padding: tuple[str, ...] = ()
    pool: str = ""


def spec(network: Network) -> object:
    """The network as a spec of mnist-jax."""
    import mnist_jax

    if network.channels:
        return mnist_jax.CNN(network.channels, network.kernel, network.pool, network.dense, network.padding)
    return mnist_jax.MLP(network.dense, ("relu",) * len(network.dense))


def load() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, Network, int]:
    """Loads training images and labels, test images and labels, as uint8; the network; the batch size."""
    with np.load(sys.argv[1]) as data:
        arrays = data["train_images"], data["train_labels"], data["test_images"], data["test_labels"]
        return *arrays, Network(**json.loads(str(data["network"]))), int(data["batch_size"])


def serve(
    versions: dict[str, str],
    epoch: Callable[[], object],
    predict: Callable[[np.ndarray], np.ndarray],
    images: np.ndarray,
    labels: np.ndarray,
) -> None:
    """Serves requests from stdin.

    `epoch` trains an epoch, `score` computes the test accuracy, and `[size, calls]` times predictions of
    batches of test images.

    Args:
        versions: the versions of the packages.
        epoch: trains one epoch.
        predict: maps uint8 images `[batch, 28, 28]` to ten probabilities or logits each.
        images: the test images.
        labels: the test labels.
    """
    send({"versions": versions})
    for line in sys.stdin:
        if line.strip() == "epoch":
            send({"seconds": timed(epoch)})
        elif line.strip() == "score":
            classes = [predict(images[i : i + 1000]).argmax(-1) for i in range(0, len(images), 1000)]
            send({"accuracy": float((np.concatenate(classes) == labels).mean())})
        else:
            size, calls = json.loads(line)
            starts = [call * size % (len(images) - size + 1) for call in range(calls)]
            send({"seconds": [timed(predict, images[start : start + size]) for start in starts]})


def timed(run: Callable[..., object], *arguments: object) -> float:
    """Times a call; returns seconds."""
    start = time.perf_counter()
    run(*arguments)
    return time.perf_counter() - start


def send(value: object) -> None:
    """Prints one line of JSON."""
    print(json.dumps(value), file=OUT, flush=True)


# Frameworks may print on stdout; their output goes to stderr, so that only responses go to stdout.
OUT, sys.stdout = sys.stdout, sys.stderr
