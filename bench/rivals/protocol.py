"""What every rival says and hears: one JSON line when it is ready, then one for each `epoch` or `score`."""

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


def load() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, Network, int]:
    """Training images and labels, test images and labels, as uint8; the network; the batch size."""
    with np.load(sys.argv[1]) as data:
        arrays = data["train_images"], data["train_labels"], data["test_images"], data["test_labels"]
        return *arrays, Network(**json.loads(str(data["network"]))), int(data["batch_size"])


def serve(versions: dict[str, str], epoch: Callable[[], object], score: Callable[[], float]) -> None:
    """Trains an epoch, timed, or scores the test set, once for each line that comes in."""
    say({"versions": versions})
    for line in sys.stdin:
        if line.strip() == "epoch":
            start = time.perf_counter()
            epoch()
            say({"seconds": time.perf_counter() - start})
        else:
            say({"accuracy": score()})


def say(value: object) -> None:
    """One line, at once."""
    print(json.dumps(value), file=OUT, flush=True)


# Frameworks print on stdout what they please; the answers keep it for themselves.
OUT, sys.stdout = sys.stdout, sys.stderr
