"""Loops compiled to machine code by numba, and a way to run them on torch's own threads.

While torch's OpenMP threads wait for the next product they spin, and threads of our own would wait for them: a decode
step takes a fifth longer then (docs/log.md).
"""

import ctypes
import os
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numba
import numpy as np
import torch
from llvmlite import binding
from numba import types
from numba.extending import intrinsic

REORDER = {"contract", "reassoc", "nsz"}  # sums may be vectorised; NaN and infinity keep their meaning


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


@cache
def openmp() -> ctypes.CDLL | None:
    """The library whose threads compute for torch: GNU's, in torch's wheels for Linux; None elsewhere."""
    for path in sorted(Path(torch.__file__).parent.glob("lib/libgomp*.so*")):
        try:
            return ctypes.CDLL(str(path), mode=os.RTLD_NOLOAD)  # only if torch has loaded it
        except OSError:
            continue
    return None


class OnTorchThreads:
    """A function of one argument, an array of int64 (sizes, and addresses of arrays), that every one of torch's
    threads calls at once and in which each does its `share`.

    Raises:
        RuntimeError: torch's threads can't be had here.
    """

    def __init__(self, part: Callable[[Any], None]):
        library = openmp()
        if library is None:
            raise RuntimeError("torch has no GNU OpenMP here")
        for name in ("omp_get_thread_num", "omp_get_num_threads"):
            binding.add_symbol(f"barkery_{name}", ctypes.cast(library[name], ctypes.c_void_p).value)
        self.start = library.GOMP_parallel
        self.part = kept_on_disk(numba.cfunc, types.void(types.CPointer(types.int64)))(part)

    def __call__(self, *told: int) -> None:
        numbers = np.array(told, np.int64)
        data = ctypes.c_void_p(numbers.ctypes.data)
        self.start(ctypes.c_void_p(self.part.address), data, torch.get_num_threads(), 0)


thread_number = types.ExternalFunction("barkery_omp_get_thread_num", types.int32())
num_threads = types.ExternalFunction("barkery_omp_get_num_threads", types.int32())


@compiled
def share(rows):  # type: ignore[no-untyped-def]
    """First and stop of this thread's part of so many rows."""
    return rows * thread_number() // num_threads(), rows * (thread_number() + 1) // num_threads()


def pointer_to(kind: Any) -> Callable[[int], Any]:
    """For compiled code: an address as a pointer."""

    @intrinsic
    def pointer(_, address):  # type: ignore[no-untyped-def]
        result = types.CPointer(kind)
        return result(types.int64), lambda context, builder, _, values: builder.inttoptr(
            values[0], context.get_value_type(result)
        )

    return pointer


float32_at, int32_at, int8_at = (pointer_to(kind) for kind in (types.float32, types.int32, types.int8))
