"""The lowest seconds of products of matrices in PyTorch, whichever operand lies transposed in memory.

Takes a JSON list of `[rows, inner, columns]`, prints a JSON list of seconds.
"""

import json
import sys
import time
from collections.abc import Callable
from functools import partial

import torch


def seconds(run: Callable[[], object]) -> float:
    """Of one call: the best of five loops that take 20 ms each."""
    run()
    count, best = 1, float("inf")
    while True:
        start = time.perf_counter()
        for _ in range(count):
            run()
        took = time.perf_counter() - start
        if took >= 0.02:
            break
        count *= 2
    for _ in range(5):
        start = time.perf_counter()
        for _ in range(count):
            run()
        best = min(best, time.perf_counter() - start)
    return best / count


found = []
for rows, inner, columns in json.loads(sys.argv[1]):
    left, right = torch.rand(rows, inner), torch.rand(inner, columns)
    lefts, rights = (left, left.T.contiguous().T), (right, right.T.contiguous().T)
    out = torch.empty(rows, columns)
    found.append(min(seconds(partial(torch.mm, a, b, out=out)) for a in lefts for b in rights))
print(json.dumps(found))  # noqa: T201
