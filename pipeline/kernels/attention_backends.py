"""The ways in which many queries attend to many keys (prompts, windows of frames), by name: q (B, H, N, D) and k, v
(B, H, T, D) -> (B, H, N, D); if causal, N = T. Both are exact: they differ in the order of a sum.

`tiled`  a loop of our own, on CPUs: up to two and a half times as fast as torch's (docs/log.md)
`plain`  torch's kernel
"""

from collections.abc import Callable
from functools import cache

import torch
from torch import Tensor
from torch.nn import functional as F

Attend = Callable[[Tensor, Tensor, Tensor, bool], Tensor]


def plain(q: Tensor, k: Tensor, v: Tensor, causal: bool) -> Tensor:
    return F.scaled_dot_product_attention(q, k, v, is_causal=causal)


def tiled(q: Tensor, k: Tensor, v: Tensor, causal: bool) -> Tensor:
    return kernel()(q, k, v, causal)


@cache
def kernel() -> Attend:
    from pipeline.kernels.prefill_attention import (
        TiledAttention,  # here: numba takes a moment, and who doesn't attend needs none
    )

    return TiledAttention()


ATTENTION_BACKENDS: dict[str, Attend] = {"tiled": tiled, "plain": plain}


def attention_available(name: str, dtype: torch.dtype) -> bool:
    """Whether that way is possible here, on a CPU."""
    if name == "plain":
        return True
    try:
        kernel()
    except RuntimeError:
        return False
    return dtype == torch.float32
