"""Arrays of floats that are float32, or bfloat16 as int16: the upper half of a float32's bits."""

from typing import Any

import numpy as np
from numba import types
from numba.extending import overload

from pipeline.kernels.jit.compile import bits_of, float_of

BELOW_HALF, UPPER = np.int32(0x7FFF), np.int32(16)


def number(stored: Any) -> Any:
    """For compiled code: what an array's element means, as float32."""
    raise NotImplementedError


@overload(number, inline="always")
def _number(stored):  # type: ignore[no-untyped-def]  # numba compares the names and what is said of them
    if stored == types.int16:
        return lambda stored: float_of(np.int32(stored) << UPPER)
    return lambda stored: stored


def store(array: Any, i: int, x: float) -> None:
    """For compiled code: array[i] = x, float32, rounded to the nearest where the array is bfloat16."""
    raise NotImplementedError


@overload(store, inline="always")
def _store(array, i, x):  # type: ignore[no-untyped-def]
    if array.dtype == types.int16:
        return store_rounded
    return store_as_it_is


def store_rounded(array, i, x):  # type: ignore[no-untyped-def]
    bits = bits_of(x)
    array[i] = np.int16((bits + BELOW_HALF + ((bits >> UPPER) & np.int32(1))) >> UPPER)


def store_as_it_is(array, i, x):  # type: ignore[no-untyped-def]
    array[i] = x
