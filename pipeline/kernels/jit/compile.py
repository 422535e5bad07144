"""Loops compiled to machine code by numba, at the first call, and kept on disk where there is a place for it."""

import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numba
import numpy as np
from numba import types
from numba.extending import intrinsic

REORDER = {"contract", "reassoc", "nsz"}  # sums may be vectorised; NaN and infinity keep their meaning
# numba compiles anew when a loop's own file has changed; what it calls from this room must count, too
ROOM = zlib.crc32(b"".join(path.read_bytes() for path in sorted(Path(__file__).parent.glob("*.py"))))


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    return kept_on_disk(numba.njit, nogil=True, fastmath=REORDER, error_model="numpy")(function)


def kept_on_disk(compiler: Callable[..., Any], *signature: Any, **how: Any) -> Callable[..., Any]:
    def compile_it(function: Callable[..., Any]) -> Any:
        function.__qualname__ += f"_{ROOM:x}"
        try:
            return compiler(*signature, **how, cache=True)(function)
        except RuntimeError:  # neither the package's folder nor the home can be written to
            return compiler(*signature, **how)(function)

    return compile_it


def pointer_to(kind: Any) -> Callable[[int], Any]:
    """For compiled code: an address as a pointer."""

    @intrinsic
    def pointer(_, address):  # type: ignore[no-untyped-def]
        result = types.CPointer(kind)
        return result(types.int64), lambda context, builder, _, values: builder.inttoptr(
            values[0], context.get_value_type(result)
        )

    return pointer


float32_at, int32_at = pointer_to(types.float32), pointer_to(types.int32)
int16_at, int8_at = pointer_to(types.int16), pointer_to(types.int8)


def same_bits(kind: Any, result: Any) -> Callable[[Any], Any]:
    """For compiled code: a number's bits as another kind of number."""

    @intrinsic
    def convert(_, number):  # type: ignore[no-untyped-def]
        return result(kind), lambda context, builder, _, values: builder.bitcast(
            values[0], context.get_value_type(result)
        )

    return convert


bits_of, float_of = same_bits(types.float32, types.int32), same_bits(types.int32, types.float32)
BUT_SIGN = np.int32(0x7FFFFFFF)  # of a float32's bits
