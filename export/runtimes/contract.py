"""What every program here does the same: read images, ask the network, write its answers.

    PROGRAM model.onnx images.uint8 answers.float32 SIZE...

Images are raw bytes, uint8 or float32 as the file's name ends, `[n, 1, 28, 28]`; answers are raw float32,
`[n, 10]`. Batches of the given sizes are cut off one after the other, the last size again until none are
left. A batch of each size is asked for before the clock runs. Prints one line of JSON.
"""

import json
import sys
import time
from itertools import chain, repeat

import numpy as np


def main(load, version):
    """Runs the contract for `load(path) -> ask`, where `ask(images)` gives the answers to one batch."""
    model, images, answers, *sizes = sys.argv[1:]
    pixels = np.fromfile(images, images.rpartition(".")[2]).reshape(-1, 1, 28, 28)
    batches, start = [], 0
    for size in chain(map(int, sizes), repeat(int(sizes[-1]))):
        batches.append(pixels[start : start + size])
        start += size
        if start >= len(pixels):
            break

    ask = load(model)
    for batch in {len(batch): batch for batch in batches}.values():
        ask(batch)
    begin = time.perf_counter()
    found = [np.asarray(ask(batch), np.float32) for batch in batches]
    seconds = time.perf_counter() - begin
    np.concatenate(found).tofile(answers)
    print(json.dumps({"version": version, "seconds": seconds}))
