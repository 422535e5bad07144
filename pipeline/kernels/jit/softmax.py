"""The exponentials of a softmax, in a form that compilers vectorize. The caller divides by their sum at the end."""

import numpy as np

from pipeline.kernels.jit.compile import ABS_MASK, bits_to_float, compiled, float_to_bits

LOG2_E, LN_2 = np.float32(1.4426950408889634), np.float32(0.6931471805599453)
MIN_EXPONENT = np.float32(-126.0)  # the smallest normal float32 is 2 to this power
MANTISSA_BITS, EXPONENT_BIAS = np.int32(23), np.int32(127)
OVER_720, OVER_120, OVER_24, OVER_6 = (np.float32(1 / n) for n in (720, 120, 24, 6))  # of exp's Taylor series
HALF, ONE = np.float32(0.5), np.float32(1.0)


@compiled
def sortable_bits(bits):  # type: ignore[no-untyped-def]  # numba infers the types
    """A float32's bits (int32) as an int32 that grows with the float, NaN above infinity. Its own inverse."""
    return bits ^ ((bits >> np.int32(31)) & ABS_MASK)


@compiled
def exp_in_place(scores, n):  # type: ignore[no-untyped-def]
    """Replace the first n of scores (T,) float32 by exp(score - maximum) and return their sum (float32).

    Accurate to what rounding `score - maximum` to float32 costs, as for any float32 exponential. A NaN among the
    scores makes all n results NaN. The integer part of the power of 2 is written to the exponent bits, the rest
    (at most half of ln 2) comes from the Taylor series.
    """
    maximum = sortable_bits(float_to_bits(np.float32(-np.inf)))
    for t in range(n):
        maximum = max(maximum, sortable_bits(float_to_bits(scores[t])))
    top = bits_to_float(sortable_bits(maximum))
    total = np.float32(0.0)
    for t in range(n):
        x = max((scores[t] - top) * LOG2_E, MIN_EXPONENT)
        whole = np.rint(x)
        f = (x - whole) * LN_2
        near_one = (((((OVER_720 * f + OVER_120) * f + OVER_24) * f + OVER_6) * f + HALF) * f + ONE) * f + ONE
        scores[t] = near_one * bits_to_float((np.int32(whole) + EXPONENT_BIAS) << MANTISSA_BITS)
        total += scores[t]
    return total
