"""Decorators that compile loops to machine code with numba, and small intrinsics that such loops use.

Compilation happens at the first call. The machine code is cached on disk where a writable place exists.
"""

import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numba
import numpy as np
from numba import types
from numba.extending import intrinsic

REORDER = {"contract", "reassoc", "nsz"}  # sums may be vectorized; NaN and infinity keep their meaning
KERNELS_FOLDER = Path(__file__).parent.parent


def hash_sources(folder: Path) -> int:
    """CRC-32 of all Python files in a folder and below it."""
    checksum = 0
    for path in sorted(folder.rglob("*.py")):
        checksum = zlib.crc32(path.read_bytes(), checksum)
    return checksum


# numba compiles a cached function anew when its own file has changed, and does not look at the functions that it
# inlines from other files. The hash is part of every function's name, so a change in any kernel file recompiles all.
SOURCE_HASH = hash_sources(KERNELS_FOLDER)


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile a function at its first call. Division by zero gives infinity or NaN, as in numpy, and never raises."""
    return with_disk_cache(numba.njit, nogil=True, fastmath=REORDER, error_model="numpy")(function)


def with_disk_cache(compiler: Callable[..., Any], *signature: Any, **options: Any) -> Callable[..., Any]:
    """A decorator: `compiler(*signature, **options)` with numba's disk cache, or without it where nothing is writable.

    Raises:
        RuntimeError: any other error of the compiler.
    """

    def compile_function(function: Callable[..., Any]) -> Any:
        function.__qualname__ += f"_{SOURCE_HASH:x}"
        try:
            return compiler(*signature, **options, cache=True)(function)
        except RuntimeError as error:
            # numba's text where neither the package's folder nor the user's cache folder can be written to
            if not str(error).startswith("cannot cache function"):
                raise
            return compiler(*signature, **options)(function)

    return compile_function


def pointer_to(kind: Any) -> Callable[[int], Any]:
    """An intrinsic for compiled code: converts an address to a pointer."""

    @intrinsic
    def pointer(_, address):  # type: ignore[no-untyped-def]
        result = types.CPointer(kind)
        return result(types.int64), lambda context, builder, _, values: builder.inttoptr(
            values[0], context.get_value_type(result)
        )

    return pointer


float32_pointer, int32_pointer = pointer_to(types.float32), pointer_to(types.int32)
int16_pointer, int8_pointer = pointer_to(types.int16), pointer_to(types.int8)


def bit_cast(source: Any, target: Any) -> Callable[[Any], Any]:
    """An intrinsic for compiled code: reads the bits of one number type as another type of the same size."""

    @intrinsic
    def convert(_, value):  # type: ignore[no-untyped-def]
        return target(source), lambda context, builder, _, values: builder.bitcast(
            values[0], context.get_value_type(target)
        )

    return convert


float_to_bits, bits_to_float = bit_cast(types.float32, types.int32), bit_cast(types.int32, types.float32)
ABS_MASK = np.int32(0x7FFFFFFF)  # all bits of a float32 but its sign
