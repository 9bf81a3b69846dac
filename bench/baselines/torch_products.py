"""Times matrix products in PyTorch, in the fastest of four memory layouts of the operands.

Takes a JSON list of `[rows, inner, columns]` and prints PyTorch's version and a list of seconds.
"""

import json
import sys
import time
from collections.abc import Callable
from functools import partial

import torch


def seconds(run: Callable[[], object]) -> float:
    """Seconds per call in the best of five loops of at least 20 ms."""
    run()
    count, best = 1, float("inf")
    while True:
        start = time.perf_counter()
        for _ in range(count):
            run()
        elapsed = time.perf_counter() - start
        if elapsed >= 0.02:
            break
        count *= 2
    for _ in range(5):
        start = time.perf_counter()
        for _ in range(count):
            run()
        best = min(best, time.perf_counter() - start)
    return best / count


results = []
for rows, inner, columns in json.loads(sys.argv[1]):
    left, right = torch.rand(rows, inner), torch.rand(inner, columns)
    lefts, rights = (left, left.T.contiguous().T), (right, right.T.contiguous().T)
    out = torch.empty(rows, columns)
    results.append(min(seconds(partial(torch.mm, a, b, out=out)) for a in lefts for b in rights))
print(json.dumps({"version": torch.__version__, "seconds": results}))  # noqa: T201
