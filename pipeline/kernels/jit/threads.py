"""Compiled loops on torch's own threads.

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

from pipeline.kernels.jit.compile import compiled, kept_on_disk


@cache
def openmp() -> ctypes.CDLL | None:
    """The library whose threads compute for torch, known to compiled code: GNU's, in torch's wheels for Linux; None
    elsewhere."""
    for path in sorted(Path(torch.__file__).parent.glob("lib/libgomp*.so*")):
        try:
            library = ctypes.CDLL(str(path), mode=os.RTLD_NOLOAD)  # only if torch has loaded it
        except OSError:
            continue
        for name in ("omp_get_thread_num", "omp_get_num_threads"):
            binding.add_symbol(f"barkery_{name}", ctypes.cast(library[name], ctypes.c_void_p).value)
        return library
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
        self.start = library.GOMP_parallel
        self.part = machine_code(part)

    def __call__(self, *args: int) -> None:
        numbers = np.array(args, np.int64)
        data = ctypes.c_void_p(numbers.ctypes.data)
        self.start(ctypes.c_void_p(self.part.address), data, torch.get_num_threads(), 0)


@cache
def machine_code(part: Callable[[Any], None]) -> Any:
    """Once in a process: each layer has its own `OnTorchThreads`."""
    return kept_on_disk(numba.cfunc, types.void(types.CPointer(types.int64)))(part)


thread_number = types.ExternalFunction("barkery_omp_get_thread_num", types.int32())
num_threads = types.ExternalFunction("barkery_omp_get_num_threads", types.int32())


@compiled
def share(rows):  # type: ignore[no-untyped-def]
    """First and stop of this thread's part of so many rows."""
    return rows * thread_number() // num_threads(), rows * (thread_number() + 1) // num_threads()
