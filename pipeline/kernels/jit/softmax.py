"""The exponentials of a row of scores, in a form that compilers vectorise; the sum is divided by at the end."""

import numpy as np

from pipeline.kernels.jit.compile import BUT_SIGN, bits_of, compiled, float_of

LOG2_E, LN_2 = np.float32(1.4426950408889634), np.float32(0.6931471805599453)
LEAST = np.float32(-126.0)  # the smallest normal float32 is 2 to this
MANTISSA_BITS, EXPONENT_BIAS = np.int32(23), np.int32(127)
OVER_720, OVER_120, OVER_24, OVER_6 = (np.float32(1 / n) for n in (720, 120, 24, 6))  # of exp's Taylor series
HALF, ONE = np.float32(0.5), np.float32(1.0)


@compiled
def in_order(bits):  # type: ignore[no-untyped-def]  # numba infers them
    """A float's bits as a whole number that grows with it (and NaN beyond infinity); its own inverse."""
    return bits ^ ((bits >> np.int32(31)) & BUT_SIGN)


@compiled
def exponentials(scores, n):  # type: ignore[no-untyped-def]
    """scores (T,) float32: the first n, in place, to exp(score - largest); returns their sum. Off by what rounding the
    difference is worth, as any exponential of a float32 is. What is not a number makes all so.

    2 to the whole part comes from the bits, the rest (at most half of ln 2) from the series.
    """
    largest = in_order(bits_of(np.float32(-np.inf)))
    for t in range(n):
        largest = max(largest, in_order(bits_of(scores[t])))
    top = float_of(in_order(largest))
    total = np.float32(0.0)
    for t in range(n):
        x = max((scores[t] - top) * LOG2_E, LEAST)
        whole = np.rint(x)
        f = (x - whole) * LN_2
        near_one = (((((OVER_720 * f + OVER_120) * f + OVER_24) * f + OVER_6) * f + HALF) * f + ONE) * f + ONE
        scores[t] = near_one * float_of((np.int32(whole) + EXPONENT_BIAS) << MANTISSA_BITS)
        total += scores[t]
    return total
