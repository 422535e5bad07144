"""Counter-based noise: computed from (key, counter), never drawn from a stream.

A stream of random numbers depends on what was drawn before; this noise depends on the row's key and the place in
the row alone. So a row's choices survive batching, retries and any order of work.

Source: Threefry-2x32, 20 rounds (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3").
"""

import hashlib

import numpy as np
import torch
from torch import Tensor

ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))
PARITY = 0x1BD11BDA
Key = tuple[int, int]  # two 32-bit words


def make_key(*parts: object) -> Key:
    """A key from anything with a stable text form, e.g. (seed, stage name)."""
    digest = hashlib.blake2b("\x1f".join(map(str, parts)).encode(), digest_size=8).digest()
    return int.from_bytes(digest[:4], "little"), int.from_bytes(digest[4:], "little")


def signed(word: int) -> int:
    """A 32-bit word as torch's int32 holds it."""
    word &= 0xFFFFFFFF
    return word - (1 << 32) if word >= 1 << 31 else word


def rotate_left(x: Tensor, bits: int) -> Tensor:
    """Rotation of int32 words; the right shift is arithmetic in torch, so the sign's copies are masked off."""
    return (x << bits) | ((x >> (32 - bits)) & ((1 << bits) - 1))


def threefry(keys: Tensor, c0: Tensor, c1: Tensor) -> tuple[Tensor, Tensor]:
    """keys (..., 2), counters c0 and c1 (...), all int32 -> two words (...) int32. Wraps around on purpose."""
    k0, k1 = keys[..., 0], keys[..., 1]
    schedule = (k0, k1, k0 ^ k1 ^ signed(PARITY))
    x0, x1 = c0 + k0, c1 + k1
    for round_ in range(5):
        for bits in ROTATIONS[round_ % 2]:
            x0 = x0 + x1
            x1 = rotate_left(x1, bits) ^ x0
        x0 = x0 + schedule[(round_ + 1) % 3]
        x1 = x1 + schedule[(round_ + 2) % 3] + (round_ + 1)
    return x0, x1


def words(keys: list[Key], steps: list[int], count: int, device: torch.device | str) -> tuple[Tensor, Tensor]:
    """Two words (B, count) int32 for the counters (steps[b], 0 ... count - 1)."""
    held = torch.tensor([[signed(a), signed(b)] for a, b in keys], dtype=torch.int32, device=device)
    c0 = torch.tensor([signed(s) for s in steps], dtype=torch.int32, device=device)
    c1 = torch.arange(count, dtype=torch.int32, device=device)
    shape = (len(keys), count)
    return threefry(held[:, None].expand(*shape, 2), c0[:, None].expand(shape), c1.expand(shape))


def words_on_cpu(keys: list[Key], steps: list[int], count: int, _: object) -> tuple[Tensor, Tensor]:
    """The same words by a compiled loop."""
    from pipeline.kernels.threefry import fill_words  # here: numba takes a moment, and who doesn't draw needs none

    made = torch.empty((2, len(keys), count), dtype=torch.int32)
    held, counters = (np.array(x, np.int64).astype(np.uint32) for x in (keys, steps))  # wraps around, as `signed` does
    fill_words(held, counters, *made.numpy().view(np.uint32))
    return made[0], made[1]


def exponential(keys: list[Key], steps: list[int], width: int, device: torch.device | str = "cpu") -> Tensor:
    """Exp(1) noise (B, width), float32: row i from (keys[i], steps[i]) alone.

    argmax(p / noise) is a draw from p. Small values decide such a race, so the uniform is taken near 0, where
    float32 is fine-grained, and -log(1 - u) keeps its resolution of 2^-32.
    """
    half = (width + 1) // 2  # each counter gives two words
    x0, x1 = (words_on_cpu if torch.device(device).type == "cpu" else words)(keys, steps, half, device)
    # neighbours share a counter, so that an index's noise does not depend on the width either
    bits = torch.stack([x0, x1], dim=-1).flatten(1)[:, :width]  # (B, width) int32
    uniform = bits.double().add_(2**31 + 0.5).mul_(2.0**-32)  # in (0, 1), exact
    return uniform.neg_().log1p_().neg_().float()
