"""Threefry-2x32 as one compiled loop, for CPUs: with torch's operators it is a hundred small ones, which cost a decode
step 1 ms, and 10 where threads wait without spinning, as in actors (docs/log.md)."""

import numpy as np

from pipeline.kernels.jit.compile import compiled

PARITY = np.uint32(0x1BD11BDA)


@compiled
def fill_words(keys, steps, first, second):  # type: ignore[no-untyped-def]  # numba infers them
    """keys (B, 2), steps (B,), first and second (B, N), all uint32: both words of counter (steps[b], n) under keys[b].

    numba adds and shifts in 64 bits unless told otherwise at each operation; two arrays, because one of pairs keeps the
    loop from being vectorised (0.6 ms instead of 6 for half a million counters).
    """
    for b in range(len(keys)):
        k0, k1, step = keys[b, 0], keys[b, 1], steps[b]
        k2 = np.uint32(k0 ^ k1 ^ PARITY)
        row0, row1 = first[b], second[b]
        for n in range(row0.size):
            x0, x1 = np.uint32(step + k0), np.uint32(n + k1)
            x0, x1 = four_rounds(x0, x1, 13, 15, 26, 6, k1, k2 + 1)
            x0, x1 = four_rounds(x0, x1, 17, 29, 16, 24, k2, k0 + 2)
            x0, x1 = four_rounds(x0, x1, 13, 15, 26, 6, k0, k1 + 3)
            x0, x1 = four_rounds(x0, x1, 17, 29, 16, 24, k1, k2 + 4)
            x0, x1 = four_rounds(x0, x1, 13, 15, 26, 6, k2, k0 + 5)
            row0[n], row1[n] = x0, x1


@compiled
def four_rounds(x0, x1, r0, r1, r2, r3, a, b):  # type: ignore[no-untyped-def]
    x0, x1 = one_round(x0, x1, r0)
    x0, x1 = one_round(x0, x1, r1)
    x0, x1 = one_round(x0, x1, r2)
    x0, x1 = one_round(x0, x1, r3)
    return np.uint32(x0 + a), np.uint32(x1 + b)


@compiled
def one_round(x0, x1, bits):  # type: ignore[no-untyped-def]
    x0 = np.uint32(x0 + x1)
    rotated = np.uint32(x1 << np.uint32(bits)) | np.uint32(x1 >> np.uint32(32 - bits))
    return x0, np.uint32(rotated ^ x0)
