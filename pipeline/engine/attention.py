"""Attention of one query per slot over what is filled of a cache in memory: every key and value is read once, and the
step's own are written on the way.

torch's kernels are made for many queries; with one they read this machine's memory at a third of its speed
(docs/log.md). A row's arithmetic is a fixed order over its own positions: no slot can feel another, nor the threads.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numba
import numpy as np
import torch
from torch import Tensor

REORDER = {"contract", "reassoc", "nsz"}  # sums may be vectorised; NaN and infinity keep their meaning
MOST_THREADS = 8  # each costs some 10 µs a layer to call, and a few read all that memory gives (tried: 1 and 2)


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """To machine code at the first call, which is kept on disk where there is a place for it."""
    try:
        return numba.njit(nogil=True, fastmath=REORDER, error_model="numpy", cache=True)(function)
    except RuntimeError:  # neither the package's folder nor the home can be written to
        return numba.njit(nogil=True, fastmath=REORDER, error_model="numpy")(function)


@compiled
def attend_rows(qkv, k, v, lengths, out, first, stride):  # type: ignore[no-untyped-def]  # numba infers them
    """qkv (S, 3, H, D); k, v (S, H, T, D); lengths (S,); out (S, H, D). Of the S · H rows: first, first + stride ..."""
    S, _, H, D = qkv.shape
    scores = np.empty(k.shape[2], np.float32)
    scale = np.float32(1.0) / np.sqrt(np.float32(D))
    for row in range(first, S * H, stride):
        s, h = row // H, row % H
        n, query, keys, values, sums = lengths[s], qkv[s, 0, h], k[s, h], v[s, h], out[s, h]
        sums[:] = np.float32(0.0)
        if n:
            keys[n - 1], values[n - 1] = qkv[s, 1, h], qkv[s, 2, h]
        largest = np.float32(-np.inf)
        for t in range(n):
            score = np.float32(0.0)
            for d in range(D):
                score += query[d] * keys[t, d]
            scores[t] = score * scale
            largest = max(largest, scores[t])
        total = np.float32(0.0)
        for t in range(n):
            weight = np.exp(scores[t] - largest)
            total += weight
            for d in range(D):
                sums[d] += weight * values[t, d]
        if n:
            for d in range(D):
                sums[d] /= total


class CPUAttention:
    """`attend_rows` on as many threads as torch has."""

    def __init__(self) -> None:
        self.threads = min(torch.get_num_threads(), MOST_THREADS)
        self.helpers = ThreadPoolExecutor(self.threads, "attention")  # starts threads when they are first needed

    def __call__(self, qkv: Tensor, k: Tensor, v: Tensor, lengths: np.ndarray) -> Tensor:
        """qkv (S, 3 · H · D), k and v (S, H, T, D), float32; lengths (S,), with the new position -> (S, H · D)."""
        S, H, _, D = k.shape
        out = torch.empty(S, H, D)
        arrays = (qkv.view(S, 3, H, D).numpy(), k.numpy(), v.numpy(), lengths, out.numpy())
        rest = [self.helpers.submit(attend_rows, *arrays, i, self.threads) for i in range(1, self.threads)]
        attend_rows(*arrays, 0, self.threads)
        for each in rest:
            each.result()
        return out.view(S, H * D)
