"""Reads and writes of arrays that hold float32, or bfloat16 as int16: the upper half of a float32's bits."""

from typing import Any

import numpy as np
from numba import types
from numba.extending import overload

from pipeline.kernels.jit.compile import bits_to_float, float_to_bits

BELOW_HALF, HALF_BITS = np.int32(0x7FFF), np.int32(16)


def load_float(element: Any) -> Any:
    """For compiled code: an array's element as float32."""
    raise NotImplementedError


@overload(load_float, inline="always")
def _load_float(element):  # type: ignore[no-untyped-def]  # numba compares the argument names with `load_float`'s
    if element == types.int16:
        return lambda element: bits_to_float(np.int32(element) << HALF_BITS)
    return lambda element: element


def store_float(array: Any, i: int, x: float) -> None:
    """For compiled code: array[i] = x (float32), rounded to the nearest where the array is bfloat16."""
    raise NotImplementedError


@overload(store_float, inline="always")
def _store_float(array, i, x):  # type: ignore[no-untyped-def]
    if array.dtype == types.int16:
        return store_rounded
    return store_unchanged


def store_rounded(array, i, x):  # type: ignore[no-untyped-def]
    bits = float_to_bits(x)
    array[i] = np.int16((bits + BELOW_HALF + ((bits >> HALF_BITS) & np.int32(1))) >> HALF_BITS)


def store_unchanged(array, i, x):  # type: ignore[no-untyped-def]
    array[i] = x
