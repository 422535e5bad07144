"""Attention of one query per slot over what is filled of a cache in memory: every key and value is read once, and the
step's own are written on the way. The cache is float32, or bfloat16, which is half as much to read.

torch's kernels are made for many queries; with one they read this machine's memory at a third of its speed
(docs/log.md). A row's arithmetic is a fixed order over its own positions: no slot can feel another, nor the threads.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numba
import numpy as np
import torch
from torch import Tensor

from pipeline.kernels.jit.bfloat16 import number, store
from pipeline.kernels.jit.compile import compiled, float32_at, int16_at
from pipeline.kernels.jit.softmax import exponentials
from pipeline.kernels.jit.threads import OnTorchThreads, num_threads, openmp, thread_number

MOST_THREADS = 8  # of our own: each costs some 10 µs a layer to call, and a few read all that memory gives


@compiled
def attend_rows(qkv, k, v, lengths, out, first, stride):  # type: ignore[no-untyped-def]  # numba infers them
    """qkv (S, 3, H, D) and out (S, H, D) float32; k, v (S, H, T, D) float32, or bfloat16 as int16; lengths (S,). Of the
    S · H rows: first, first + stride ..."""
    S, _, H, D = qkv.shape
    scores = np.empty(k.shape[2], np.float32)
    scale = np.float32(1.0) / np.sqrt(np.float32(D))
    for row in range(first, S * H, stride):
        s, h = row // H, row % H
        n, query, keys, values, sums = lengths[s], qkv[s, 0, h], k[s, h], v[s, h], out[s, h]
        sums[:] = np.float32(0.0)
        if n:
            for d in range(D):
                store(keys[n - 1], d, qkv[s, 1, h, d])
                store(values[n - 1], d, qkv[s, 2, h, d])
        for t in range(n):
            score = np.float32(0.0)
            for d in range(D):
                score += query[d] * number(keys[t, d])
            scores[t] = score * scale
        total = exponentials(scores, n)
        for t in range(n):
            for d in range(D):
                sums[d] += scores[t] * number(values[t, d])
        if n:
            for d in range(D):
                sums[d] /= total


Arrays = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]  # as `attend_rows` takes them


class ThreadPoolRunner:
    """`attend_rows` on threads of our own."""

    def __init__(self) -> None:
        self.count = min(torch.get_num_threads(), MOST_THREADS)
        self.helpers = ThreadPoolExecutor(self.count, "attention")  # starts threads when they are first needed

    def __call__(self, arrays: Arrays) -> None:
        rest = [self.helpers.submit(attend_rows, *arrays, i, self.count) for i in range(1, self.count)]
        attend_rows(*arrays, 0, self.count)
        for each in rest:
            each.result()


class OpenMPRunner:
    """`attend_rows` on torch's own threads: a step of 8 slots takes 24 to 25 ms instead of 29 to 32 (docs/log.md)."""

    def __init__(self) -> None:
        self.kernel = OnTorchThreads(attend_part)

    def __call__(self, arrays: Arrays) -> None:
        qkv, k, v, lengths, out = arrays
        assert all(each.flags.c_contiguous for each in arrays)
        self.kernel(*(each.ctypes.data for each in (qkv, k, v, out)), *k.shape, k.itemsize, *lengths)


def attend_part(args):  # type: ignore[no-untyped-def]
    """One thread's rows. `args`: where qkv, k, v and out lie, then S, H, T, D, a key's bytes, and S lengths."""
    S, H, T, D = args[4], args[5], args[6], args[7]
    qkv = numba.carray(float32_at(args[0]), (S, 3, H, D))
    out = numba.carray(float32_at(args[3]), (S, H, D))
    lengths = numba.carray(args, 9 + S)[9:]
    if args[8] == 2:
        k, v = numba.carray(int16_at(args[1]), (S, H, T, D)), numba.carray(int16_at(args[2]), (S, H, T, D))
        attend_rows(qkv, k, v, lengths, out, thread_number(), num_threads())
    else:
        keys, values = numba.carray(float32_at(args[1]), (S, H, T, D)), numba.carray(float32_at(args[2]), (S, H, T, D))
        attend_rows(qkv, keys, values, lengths, out, thread_number(), num_threads())


class CPUAttention:
    """`attend_rows` on as many threads as torch has: torch's own where they can be had."""

    def __init__(self) -> None:
        self.run: Callable[[Arrays], None] = OpenMPRunner() if openmp() else ThreadPoolRunner()

    def __call__(self, qkv: Tensor, k: Tensor, v: Tensor, lengths: np.ndarray) -> Tensor:
        """qkv (S, 3 · H · D); k and v (S, H, T, D), float32 or bfloat16; lengths (S,), with the new position
        -> (S, H · D), as qkv."""
        S, H, _, D = k.shape
        out = torch.empty(S, H, D)
        queries = qkv.float().view(S, 3, H, D).numpy()
        self.run((queries, as_array(k), as_array(v), lengths, out.numpy()))
        return out.view(S, H * D).to(qkv.dtype)


def as_array(held: Tensor) -> np.ndarray:
    """The same memory, for compiled code."""
    return (held.view(torch.int16) if held.dtype == torch.bfloat16 else held).numpy()
