"""Attention of a decode step on a CPU: one query per slot over the filled part of that slot's KV cache.

Every key and value is read once, and the step's own key and value are written on the way. The cache is float32, or
bfloat16, which is half as much to read. torch's kernels are made for many queries; with one query they read this
machine's memory at a third of its speed (docs/log.md).

Each row is computed in a fixed order over its own positions: neither the other slots nor the number of threads
changes it.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numba
import numpy as np
import torch
from torch import Tensor

from pipeline.kernels.checks import check_tensor
from pipeline.kernels.jit.bfloat16 import load_float, store_float
from pipeline.kernels.jit.compile import compiled, float32_pointer, int16_pointer
from pipeline.kernels.jit.softmax import exp_in_place
from pipeline.kernels.jit.threads import ParallelKernel, num_threads, thread_number
from pipeline.kernels.openmp import torch_openmp

MAX_POOL_THREADS = 8  # each costs some 10 µs a layer to call, and a few of them use all memory bandwidth
CACHE_LINE = 16  # floats


@compiled
def attend_rows(qkv, k, v, lengths, out, scores, first, step):  # type: ignore[no-untyped-def]  # numba infers the types
    """Compute rows first, first + step ... of the S * H rows (slot, head).

    qkv (S, 3, H, D) and out (S, H, D) float32; k, v (S, H, T, D) float32, or bfloat16 as int16; lengths (S,);
    scores (T,) float32 is scratch.
    """
    S, _, H, D = qkv.shape
    scale = np.float32(1.0) / np.sqrt(np.float32(D))
    row = first
    while row < S * H:  # not a range: numba's raises where its step is 0, and nothing here may raise
        s, h = row // H, row % H
        n, query, keys, values, sums = lengths[s], qkv[s, 0, h], k[s, h], v[s, h], out[s, h]
        sums[:] = np.float32(0.0)
        if n:
            for d in range(D):
                store_float(keys[n - 1], d, qkv[s, 1, h, d])
                store_float(values[n - 1], d, qkv[s, 2, h, d])
        for t in range(n):
            score = np.float32(0.0)
            for d in range(D):
                score += query[d] * load_float(keys[t, d])
            scores[t] = score * scale
        total = exp_in_place(scores, n)
        for t in range(n):
            weight = scores[t]  # read here: for the compiler, a store to sums might change scores
            for d in range(D):
                sums[d] += weight * load_float(values[t, d])
        if n:
            for d in range(D):
                sums[d] /= total
        row += step


Arrays = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]  # qkv, k, v, lengths, out of `attend_rows`


class ThreadPoolRunner:
    """Runs `attend_rows` on a pool of Python threads."""

    def __init__(self) -> None:
        self.count = min(torch.get_num_threads(), MAX_POOL_THREADS)
        self.pool = ThreadPoolExecutor(self.count, "attention")  # starts threads when they are first needed

    def __call__(self, arrays: Arrays) -> None:
        scratch = np.empty((self.count, arrays[1].shape[2]), np.float32)
        others = [self.pool.submit(attend_rows, *arrays, scratch[i], i, self.count) for i in range(1, self.count)]
        attend_rows(*arrays, scratch[0], 0, self.count)
        for each in others:
            each.result()


class OpenMPRunner:
    """Runs `attend_rows` on torch's own threads: a step of 8 slots takes 24 to 25 ms instead of 29 to 32
    (docs/log.md)."""

    def __init__(self) -> None:
        self.kernel = ParallelKernel(attend_part)

    def __call__(self, arrays: Arrays) -> None:
        qkv, k, v, lengths, out = arrays
        threads, T = torch.get_num_threads(), k.shape[2]
        scratch = np.empty((threads, T + -T % CACHE_LINE), np.float32)
        pointers = (each.ctypes.data for each in (scratch, qkv, k, v, out))
        self.kernel(threads, *pointers, *k.shape, k.itemsize, *lengths.tolist())


def attend_part(args):  # type: ignore[no-untyped-def]
    """One thread's rows.

    args: int64 [scratch_ptr, qkv_ptr, k_ptr, v_ptr, out_ptr, S, H, T, D, kv_itemsize, *lengths]. Scratch is
    (threads, T rounded up to CACHE_LINE) float32.
    """
    S, H, T, D = args[5], args[6], args[7], args[8]
    thread = np.int64(thread_number())
    scores = numba.carray(float32_pointer(args[0] + 4 * thread * (T + -T % CACHE_LINE)), (T,))
    qkv = numba.carray(float32_pointer(args[1]), (S, 3, H, D))
    out = numba.carray(float32_pointer(args[4]), (S, H, D))
    lengths = numba.carray(args, 10 + S)[10:]
    if args[9] == 2:
        k, v = numba.carray(int16_pointer(args[2]), (S, H, T, D)), numba.carray(int16_pointer(args[3]), (S, H, T, D))
        attend_rows(qkv, k, v, lengths, out, scores, thread, num_threads())
    else:
        keys = numba.carray(float32_pointer(args[2]), (S, H, T, D))
        values = numba.carray(float32_pointer(args[3]), (S, H, T, D))
        attend_rows(qkv, keys, values, lengths, out, scores, thread, num_threads())


class CPUAttention:
    """A decode step's attention on as many threads as torch has: torch's own where it uses GNU OpenMP."""

    def __init__(self) -> None:
        self.run: Callable[[Arrays], None] = OpenMPRunner() if torch_openmp() else ThreadPoolRunner()

    def __call__(self, qkv: Tensor, k: Tensor, v: Tensor, lengths: np.ndarray) -> Tensor:
        """Write the step's keys and values, and attend.

        qkv (S, 3 * H * D) of any float dtype; k and v (S, H, T, D), float32 or bfloat16, contiguous; lengths (S,)
        int64, each slot's filled positions with the new one, 0 for an idle slot -> (S, H * D), dtype as qkv.

        Raises:
            ValueError: a shape, dtype, device or length that doesn't fit.
        """
        S, H, T, D = k.shape
        queries = qkv.float()
        check_tensor("qkv", queries, (S, 3 * H * D), torch.float32)
        check_tensor("k", k, (S, H, T, D), torch.float32, torch.bfloat16)
        check_tensor("v", v, (S, H, T, D), k.dtype)
        counts = lengths.tolist()  # a list's minimum takes a tenth of a small array's
        if lengths.shape != (S,) or lengths.dtype != np.int64 or not 0 <= min(counts) <= max(counts) <= T:
            raise ValueError(f"lengths must be {S} int64 values from 0 to {T}, are {lengths!r:.200}")
        out = torch.empty(S, H, D)
        self.run((queries.view(S, 3, H, D).numpy(), as_array(k), as_array(v), lengths, out.numpy()))
        return out.view(S, H * D).to(qkv.dtype)


def as_array(tensor: Tensor) -> np.ndarray:
    """A numpy view of the same memory; bfloat16 as int16."""
    return (tensor.view(torch.int16) if tensor.dtype == torch.bfloat16 else tensor).numpy()
