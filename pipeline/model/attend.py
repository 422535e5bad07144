"""The ways in which many queries attend to many keys (prompts, windows of frames), by name: q (B, H, N, D) and k, v
(B, H, T, D) -> (B, H, N, D); if causal, N = T.

`plain`     torch's kernel
`bfloat16`  products in bfloat16, on processors that have them: not exact, a third faster there
"""

from collections.abc import Callable
from itertools import product

import torch
from torch import Tensor
from torch.nn import functional as F

Attend = Callable[[Tensor, Tensor, Tensor, bool], Tensor]
QUERIES, HEADS = 192, 6  # of one product: its scores stay in the cache, and causal ones are few where few are needed


def plain(q: Tensor, k: Tensor, v: Tensor, causal: bool) -> Tensor:
    return F.scaled_dot_product_attention(q, k, v, is_causal=causal)


def bfloat16(q: Tensor, k: Tensor, v: Tensor, causal: bool) -> Tensor:
    B, H, N, D = q.shape
    q, k, v = (x.bfloat16().contiguous().view(B * H, -1, D) for x in (q, k, v))
    q *= D**-0.5
    out = torch.empty(B, N, H, D)  # as the next product reads it
    future = torch.full((QUERIES, QUERIES), -torch.inf, dtype=torch.bfloat16).triu(1)
    for b, first, head in product(range(B), range(0, N, QUERIES), range(0, H, HEADS)):
        stop, heads = min(first + QUERIES, N), slice(b * H + head, b * H + min(head + HEADS, H))
        seen = stop if causal else k.shape[1]
        scores = torch.bmm(q[heads, first:stop], k[heads, :seen].transpose(1, 2))
        if causal:
            scores[:, :, first:] += future[: stop - first, : stop - first]
        mixed = torch.bmm(torch.softmax(scores, -1), v[heads, :seen])
        out[b, first:stop, head : head + HEADS] = mixed.transpose(0, 1)
    return out.transpose(1, 2)


ATTEND: dict[str, Attend] = {"plain": plain, "bfloat16": bfloat16}
