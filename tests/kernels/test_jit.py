"""Compiled code on torch's threads neither allocates nor raises, and is compiled anew when its sources change."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numba
import numpy as np
import pytest
from numba import types

from pipeline.kernels import decode_attention, int8_matmul, prefill_attention
from pipeline.kernels.jit import compile as jit
from pipeline.kernels.jit.compile import hash_sources, with_disk_cache
from pipeline.kernels.jit.threads import ParallelKernel
from pipeline.kernels.openmp import torch_openmp

THREAD_FUNCTIONS = [
    decode_attention.attend_part,
    prefill_attention.attend_part,
    int8_matmul.quantize_part,
    int8_matmul.scale_part,
]


def raises_or_allocates(function: Callable[..., Any]) -> bool:
    """Whether a function's machine code has a constant exception or a call of numba's allocator."""
    code = numba.cfunc(types.void(types.CPointer(types.int64)), error_model="numpy")(function).inspect_llvm()
    return "picklebuf" in code or "NRT_MemInfo_alloc" in code or "NRT_Allocate" in code


@pytest.mark.skipif(torch_openmp() is None, reason="this torch doesn't use GNU OpenMP")
@pytest.mark.parametrize("function", THREAD_FUNCTIONS, ids=lambda f: f"{f.__module__.split('.')[-1]}.{f.__name__}")
def test_thread_functions_neither_raise_nor_allocate(function: Callable[..., Any]) -> None:
    ParallelKernel(function)  # makes the symbols of the OpenMP library known
    assert not raises_or_allocates(function)


def allocates(args):  # type: ignore[no-untyped-def]
    np.zeros(args[0])[0] = 1


def steps(args):  # type: ignore[no-untyped-def]
    for i in range(0, args[0], args[1]):  # raises where the step is 0
        args[2] = i


@pytest.mark.parametrize("function", [allocates, steps])
def test_check_finds_code_that_raises_or_allocates(function: Callable[..., Any]) -> None:
    assert raises_or_allocates(function)


def test_source_hash_follows_every_kernel_file(tmp_path: Path) -> None:
    """A kernel inlines functions from other files, which numba's cache doesn't look at."""
    copy = Path(shutil.copytree(jit.KERNELS_FOLDER, tmp_path / "kernels"))
    assert hash_sources(copy) == jit.SOURCE_HASH
    for path in (copy / "threefry.py", copy / "jit" / "softmax.py"):
        before = hash_sources(copy)
        path.write_text(path.read_text() + "\n")
        assert hash_sources(copy) != before
    assert f"{jit.SOURCE_HASH:x}" in prefill_attention.attend_block.__qualname__


def fails_to_cache(message: str) -> Callable[..., Any]:
    """A stand-in for a numba decorator."""

    def compiler(cache: bool = False) -> Callable[..., Any]:
        if cache:
            raise RuntimeError(message)
        return lambda function: "compiled without a cache"

    return compiler


def test_compiles_without_a_cache_where_nothing_is_writable() -> None:
    unwritable = fails_to_cache("cannot cache function 'f': no locator available for file 'f.py'")
    assert with_disk_cache(unwritable)(lambda: None) == "compiled without a cache"
    with pytest.raises(RuntimeError, match="another error"):
        with_disk_cache(fails_to_cache("another error"))(lambda: None)


def test_numba_reports_an_unwritable_cache_in_the_expected_words(monkeypatch: pytest.MonkeyPatch) -> None:
    from numba.core.caching import _CacheLocator

    def unwritable(self: Any) -> None:
        raise OSError("read-only file system")

    monkeypatch.setattr(_CacheLocator, "ensure_cache_path", unwritable)
    assert jit.compiled(lambda x: x + 1)(1) == 2
