"""Attention of one query per slot over what is filled of a cache in memory: every key and value is read once, and the
step's own are written on the way.

torch's kernels are made for many queries; with one they read this machine's memory at a third of its speed
(docs/log.md). A row's arithmetic is a fixed order over its own positions: no slot can feel another, nor the threads.
"""

import ctypes
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numba
import numpy as np
import torch
from llvmlite import binding
from numba import types
from numba.extending import intrinsic
from torch import Tensor

REORDER = {"contract", "reassoc", "nsz"}  # sums may be vectorised; NaN and infinity keep their meaning
MOST_THREADS = 8  # each costs some 10 µs a layer to call, and a few read all that memory gives (tried: 1 and 2)


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """To machine code at the first call, which is kept on disk where there is a place for it."""
    return kept_on_disk(numba.njit, nogil=True, fastmath=REORDER, error_model="numpy")(function)


def kept_on_disk(compiler: Callable[..., Any], *signature: Any, **how: Any) -> Callable[..., Any]:
    def compile_it(function: Callable[..., Any]) -> Any:
        try:
            return compiler(*signature, **how, cache=True)(function)
        except RuntimeError:  # neither the package's folder nor the home can be written to
            return compiler(*signature, **how)(function)

    return compile_it


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


Arrays = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]  # as `attend_rows` takes them


class Threads:
    """`attend_rows` on threads of our own."""

    def __init__(self) -> None:
        self.count = min(torch.get_num_threads(), MOST_THREADS)
        self.helpers = ThreadPoolExecutor(self.count, "attention")  # starts threads when they are first needed

    def __call__(self, arrays: Arrays) -> None:
        rest = [self.helpers.submit(attend_rows, *arrays, i, self.count) for i in range(1, self.count)]
        attend_rows(*arrays, 0, self.count)
        for each in rest:
            each.result()


def openmp() -> ctypes.CDLL | None:
    """The library whose threads compute for torch: GNU's, in torch's wheels for Linux; None elsewhere."""
    for path in sorted(Path(torch.__file__).parent.glob("lib/libgomp*.so*")):
        try:
            return ctypes.CDLL(str(path), mode=os.RTLD_NOLOAD)  # only if torch has loaded it
        except OSError:
            continue
    return None


class Team:
    """`attend_rows` on torch's own threads. While they wait for the next product they spin, and threads of our own
    would wait for them: a step of 8 slots takes 24 to 25 ms this way instead of 29 to 32 (docs/log.md)."""

    def __init__(self, library: ctypes.CDLL):
        self.library = library
        for name in ("omp_get_thread_num", "omp_get_num_threads"):
            binding.add_symbol(f"barkery_{name}", ctypes.cast(library[name], ctypes.c_void_p).value)
        self.part = kept_on_disk(numba.cfunc, types.void(types.CPointer(types.int64)))(attend_part)

    def __call__(self, arrays: Arrays) -> None:
        qkv, k, v, lengths, out = arrays
        assert all(each.flags.c_contiguous for each in arrays)
        told = np.array([*(each.ctypes.data for each in (qkv, k, v, out)), *k.shape, *lengths], np.int64)
        data = ctypes.c_void_p(told.ctypes.data)
        self.library.GOMP_parallel(ctypes.c_void_p(self.part.address), data, torch.get_num_threads(), 0)


thread_number = types.ExternalFunction("barkery_omp_get_thread_num", types.int32())
num_threads = types.ExternalFunction("barkery_omp_get_num_threads", types.int32())


def attend_part(told):  # type: ignore[no-untyped-def]
    """One thread's rows. `told`: where qkv, k, v and out lie, then S, H, T, D, then S lengths."""
    S, H, T, D = told[4], told[5], told[6], told[7]
    qkv = numba.carray(floats_at(told[0]), (S, 3, H, D))
    k = numba.carray(floats_at(told[1]), (S, H, T, D))
    v = numba.carray(floats_at(told[2]), (S, H, T, D))
    out = numba.carray(floats_at(told[3]), (S, H, D))
    lengths = numba.carray(told, 8 + S)[8:]
    attend_rows(qkv, k, v, lengths, out, thread_number(), num_threads())


@intrinsic
def floats_at(_, address):  # type: ignore[no-untyped-def]
    """An address as a pointer to float32."""
    pointer = types.CPointer(types.float32)
    return pointer(types.int64), lambda context, builder, _, values: builder.inttoptr(
        values[0], context.get_value_type(pointer)
    )


class CPUAttention:
    """`attend_rows` on as many threads as torch has: torch's own where they can be had."""

    def __init__(self) -> None:
        library = openmp()
        self.run: Callable[[Arrays], None] = Team(library) if library else Threads()

    def __call__(self, qkv: Tensor, k: Tensor, v: Tensor, lengths: np.ndarray) -> Tensor:
        """qkv (S, 3 · H · D), k and v (S, H, T, D), float32; lengths (S,), with the new position -> (S, H · D)."""
        S, H, _, D = k.shape
        out = torch.empty(S, H, D)
        self.run((qkv.view(S, 3, H, D).numpy(), k.numpy(), v.numpy(), lengths, out.numpy()))
        return out.view(S, H * D)
