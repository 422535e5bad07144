"""Backends for the attention of many queries (prompts, windows of frames), by name.

Each computes q (B, H, N, D) and k, v (B, H, T, D) -> (B, H, N, D); if causal, N = T. Both are exact: they differ in
the order of a sum.

`tiled`  a kernel of our own, on CPUs: up to two and a half times as fast as torch's (docs/log.md)
`plain`  torch's kernel
"""

from collections.abc import Callable
from functools import cache

import torch
from torch import Tensor
from torch.nn import functional as F

from pipeline.kernels.openmp import torch_openmp
from pipeline.kernels.reference import use_reference

AttentionFunction = Callable[[Tensor, Tensor, Tensor, bool], Tensor]


def plain_attention(q: Tensor, k: Tensor, v: Tensor, causal: bool) -> Tensor:
    return F.scaled_dot_product_attention(q, k, v, is_causal=causal)


def tiled_attention(q: Tensor, k: Tensor, v: Tensor, causal: bool) -> Tensor:
    return tiled_kernel()(q, k, v, causal)


@cache
def tiled_kernel() -> AttentionFunction:
    # imported here: numba takes time and 57 MiB, which processes that never attend can save
    from pipeline.kernels.prefill_attention import TiledAttention

    return TiledAttention()


ATTENTION_BACKENDS: dict[str, AttentionFunction] = {"tiled": tiled_attention, "plain": plain_attention}


def attention_available(name: str, dtype: torch.dtype) -> bool:
    """Whether this process can use a backend for this dtype on the CPU."""
    if name == "plain":
        return True
    return dtype == torch.float32 and torch_openmp() is not None and not use_reference()
