"""Runs compiled loops on torch's own OpenMP threads.

torch's threads spin while they wait for the next product, and threads of our own would have to wait for them: a decode
step takes a fifth longer then (docs/log.md).
"""

import ctypes
from collections.abc import Callable
from functools import cache
from typing import Any

import numba
import numpy as np
from llvmlite import binding
from numba import types

from pipeline.kernels.jit.compile import compiled, with_disk_cache
from pipeline.kernels.openmp import torch_openmp


class ParallelKernel:
    """Calls a compiled function on several of torch's threads at once.

    The function takes one argument, a pointer to int64 values: sizes, and addresses of arrays. Each thread finds its
    part of the work by `thread_number()` and `num_threads()`, or by `thread_range()`. The function must not allocate
    memory or raise: numba prints an exception there and goes on, and the results would be garbage.

    Raises:
        RuntimeError: torch doesn't use GNU OpenMP here.
    """

    def __init__(self, thread_function: Callable[[Any], None]):
        library = torch_openmp()
        if library is None:
            raise RuntimeError("this torch doesn't use GNU OpenMP")
        for name in ("omp_get_thread_num", "omp_get_num_threads"):
            binding.add_symbol(f"barkery_{name}", ctypes.cast(library[name], ctypes.c_void_p).value)
        self.start = library.GOMP_parallel
        self.thread_function = compile_thread_function(thread_function)

    def __call__(self, threads: int, *args: int) -> None:
        """Run on at most this number of threads, and return when all have finished."""
        values = np.array(args, np.int64)
        data = ctypes.c_void_p(values.ctypes.data)
        self.start(ctypes.c_void_p(self.thread_function.address), data, threads, 0)


@cache
def compile_thread_function(thread_function: Callable[[Any], None]) -> Any:
    """Once per process, although each layer has its own `ParallelKernel`."""
    signature = types.void(types.CPointer(types.int64))
    return with_disk_cache(numba.cfunc, signature, error_model="numpy")(thread_function)


thread_number = types.ExternalFunction("barkery_omp_get_thread_num", types.int32())
num_threads = types.ExternalFunction("barkery_omp_get_num_threads", types.int32())


@compiled
def thread_range(rows):  # type: ignore[no-untyped-def]
    """First and end of this thread's part of `rows` rows."""
    return rows * thread_number() // num_threads(), rows * (thread_number() + 1) // num_threads()
