"""The command line that all programs here share: read images, run the network, write its outputs.

    PROGRAM model.onnx images.uint8 outputs.float32 SIZE...

Images are raw values `[n, 1, 28, 28]`, uint8 or float32 by the extension of the file; outputs are raw float32
`[n, 10]`. The images are split into batches of the given sizes, in order; the last size repeats until no
images are left. One batch of each size runs as a warm-up, which is not timed. The program prints one line of
JSON with the `version` of the runtime and the `seconds` for all images.
"""

import json
import sys
import time
from itertools import chain, repeat

import numpy as np


def main(load, version):
    """Runs the program.

    Args:
        load: maps the path of a model to a function from one batch of images to its outputs.
        version: the version of the runtime.
    """
    model, images, outputs, *sizes = sys.argv[1:]
    pixels = np.fromfile(images, images.rpartition(".")[2]).reshape(-1, 1, 28, 28)
    batches, start = [], 0
    for size in chain(map(int, sizes), repeat(int(sizes[-1]))):
        batches.append(pixels[start : start + size])
        start += size
        if start >= len(pixels):
            break

    run = load(model)
    for batch in {len(batch): batch for batch in batches}.values():
        run(batch)
    start_time = time.perf_counter()
    results = [np.asarray(run(batch), np.float32) for batch in batches]
    seconds = time.perf_counter() - start_time
    np.concatenate(results).tofile(outputs)
    print(json.dumps({"version": version, "seconds": seconds}))
