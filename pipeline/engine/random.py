"""Counter-based random numbers: computed from (key, counter), never drawn from a stream.

Numbers from a stream depend on how many were drawn before. These depend only on the row's key and the place in the
row, so a row's choices survive batching, retries and any order of work.
"""

import hashlib

import torch
from torch import Tensor

from pipeline.kernels.reference import use_reference
from pipeline.kernels.threefry import Key, words


def make_key(*parts: object) -> Key:
    """A key from anything with a stable text form, e.g. (seed, stage name)."""
    digest = hashlib.blake2b("\x1f".join(map(str, parts)).encode(), digest_size=8).digest()
    return int.from_bytes(digest[:4], "little"), int.from_bytes(digest[4:], "little")


def random_words(keys: list[Key], steps: list[int], count: int, device: torch.device | str) -> tuple[Tensor, Tensor]:
    """Two random words (B, count) int32 for the counters (steps[b], 0 ... count - 1), by the fastest kernel."""
    if torch.device(device).type != "cpu" or use_reference():
        return words(keys, steps, count, device)
    # imported here: numba takes time and 57 MiB, which processes that never sample can save
    from pipeline.kernels.threefry_cpu import words_on_cpu

    return words_on_cpu(keys, steps, count)


def exponential(keys: list[Key], steps: list[int], width: int, device: torch.device | str = "cpu") -> Tensor:
    """Exp(1) random numbers (B, width), float32: row i depends on (keys[i], steps[i]) alone.

    argmax(p / exponential) is a sample from p. Small values decide it, so the uniform number u is taken near 0, where
    float32 is fine-grained, and -log(1 - u) keeps its resolution of 2^-32.
    """
    half = (width + 1) // 2  # each counter gives two words
    x0, x1 = random_words(keys, steps, half, device)
    # neighbors share a counter, so that the number at an index doesn't depend on the width
    bits = torch.stack([x0, x1], dim=-1).flatten(1)[:, :width]  # (B, width) int32
    uniform = bits.double().add_(2**31 + 0.5).mul_(2.0**-32)  # in (0, 1), exact
    return uniform.neg_().log1p_().neg_().float()
