"""Threefry-2x32 with 20 rounds, a counter-based random number generator, by torch's operators.

Source: Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3". `threefry_cpu.py` computes the same words
in a compiled loop.
"""

import torch
from torch import Tensor

ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))  # bits, of the rounds 1 to 4 and 5 to 8; then again
PARITY = 0x1BD11BDA
Key = tuple[int, int]  # two 32-bit words


def as_int32(word: int) -> int:
    """The low 32 bits of a number as a signed int32, torch's type for words."""
    word &= 0xFFFFFFFF
    return word - (1 << 32) if word >= 1 << 31 else word


def rotate_left(x: Tensor, bits: int) -> Tensor:
    """Rotate int32 words. torch's right shift is arithmetic, so the copies of the sign are masked off."""
    return (x << bits) | ((x >> (32 - bits)) & ((1 << bits) - 1))


def threefry(keys: Tensor, c0: Tensor, c1: Tensor) -> tuple[Tensor, Tensor]:
    """keys (..., 2), counters c0 and c1 (...), all int32 -> two words (...) int32. Sums wrap around, as they must."""
    k0, k1 = keys[..., 0], keys[..., 1]
    schedule = (k0, k1, k0 ^ k1 ^ as_int32(PARITY))
    x0, x1 = c0 + k0, c1 + k1
    for round_ in range(5):
        for bits in ROTATIONS[round_ % 2]:
            x0 = x0 + x1
            x1 = rotate_left(x1, bits) ^ x0
        x0 = x0 + schedule[(round_ + 1) % 3]
        x1 = x1 + schedule[(round_ + 2) % 3] + (round_ + 1)
    return x0, x1


def words(keys: list[Key], steps: list[int], count: int, device: torch.device | str) -> tuple[Tensor, Tensor]:
    """Two random words (B, count) int32 for the counters (steps[b], 0 ... count - 1) under keys[b]."""
    key_words = torch.tensor([[as_int32(a), as_int32(b)] for a, b in keys], dtype=torch.int32, device=device)
    c0 = torch.tensor([as_int32(s) for s in steps], dtype=torch.int32, device=device)
    c1 = torch.arange(count, dtype=torch.int32, device=device)
    shape = (len(keys), count)
    return threefry(key_words[:, None].expand(*shape, 2), c0[:, None].expand(shape), c1.expand(shape))
