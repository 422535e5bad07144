"""Threefry-2x32 as one compiled loop, for CPUs.

With torch's operators it is a hundred small ones, which cost a decode step 1 ms, and 10 ms where threads wait without
spinning, as in actors (docs/log.md).
"""

import numpy as np
import torch
from torch import Tensor

from pipeline.kernels.jit.compile import compiled
from pipeline.kernels.threefry import PARITY, ROTATIONS, Key

PARITY_WORD = np.uint32(PARITY)
(A0, A1, A2, A3), (B0, B1, B2, B3) = ROTATIONS


def words_on_cpu(keys: list[Key], steps: list[int], count: int) -> tuple[Tensor, Tensor]:
    """As `threefry.words`: two random words (B, count) int32 for the counters (steps[b], 0 ... count - 1)."""
    result = torch.empty((2, len(keys), count), dtype=torch.int32)
    key_words, counters = (np.array(x, np.int64).astype(np.uint32) for x in (keys, steps))  # keeps the low 32 bits
    fill_words(key_words, counters, *result.numpy().view(np.uint32))
    return result[0], result[1]


@compiled
def fill_words(keys, steps, first, second):  # type: ignore[no-untyped-def]  # numba infers the types
    """keys (B, 2), steps (B,), first and second (B, N), all uint32: both words of counter (steps[b], n) under keys[b].

    numba adds and shifts in 64 bits unless each operation is cast. Two arrays, because one array of pairs keeps the
    loop from being vectorized (0.6 ms instead of 6 for half a million counters).
    """
    for b in range(len(keys)):
        k0, k1, step = keys[b, 0], keys[b, 1], steps[b]
        k2 = np.uint32(k0 ^ k1 ^ PARITY_WORD)
        row0, row1 = first[b], second[b]
        for n in range(row0.size):
            x0, x1 = np.uint32(step + k0), np.uint32(n + k1)
            x0, x1 = four_rounds(x0, x1, A0, A1, A2, A3, k1, k2 + 1)
            x0, x1 = four_rounds(x0, x1, B0, B1, B2, B3, k2, k0 + 2)
            x0, x1 = four_rounds(x0, x1, A0, A1, A2, A3, k0, k1 + 3)
            x0, x1 = four_rounds(x0, x1, B0, B1, B2, B3, k1, k2 + 4)
            x0, x1 = four_rounds(x0, x1, A0, A1, A2, A3, k2, k0 + 5)
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
