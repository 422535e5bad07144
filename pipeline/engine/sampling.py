"""Draws one token per row from its logits, with Suno's filters in Suno's order.

top_p on the logits before temperature, then top_k, then temperature, then the draw. Temperature 0 is argmax.
Source: suno-ai/bark `generation.py`, `generate_text_semantic`.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from pipeline.engine.random import Key, exponential


@dataclass(frozen=True)
class Policy:
    """How one request draws its tokens. `eos` is the index in its range that ends it, if any does."""

    key: Key
    temperature: float
    top_k: int | None = None
    top_p: float | None = None
    eos: int | None = None
    min_eos_p: float | None = None  # ends, too, where P(EOS) reaches this


@dataclass(frozen=True)
class Drawn:
    """Per row: the index in its range, why it ends (or None), and whether its numbers are still finite."""

    indices: list[int]
    stops: list[str | None]
    finite: list[bool]


def draw(logits: Tensor, policies: list[Policy], steps: list[int]) -> Drawn:
    """logits (B, W) float32 -> one draw per row; row i depends on logits[i], policies[i] and steps[i] only."""
    W = logits.shape[1]
    for i, policy in enumerate(policies):
        if policy.temperature > 0 and (policy.top_p is not None or policy.top_k is not None):
            logits[i] = keep_likely(logits[i], policy)
    greedy = torch.tensor([p.temperature == 0 for p in policies], device=logits.device)
    temperatures = torch.tensor([p.temperature or 1.0 for p in policies], device=logits.device)
    probs = torch.softmax(logits / temperatures[:, None], dim=-1)
    noise = exponential([p.key for p in policies], steps, W, logits.device)
    drawn = torch.where(greedy, logits.argmax(-1), (probs / noise).argmax(-1))
    finite = torch.isfinite(probs.sum(-1))
    eos = torch.tensor([[p.eos or 0] for p in policies], device=logits.device)
    eos_p = probs.gather(1, eos)[:, 0]
    packed = torch.stack([drawn.double(), eos_p.double(), finite.double()]).tolist()  # one transfer
    indices = [int(i) for i in packed[0]]
    stops = [stop_reason(policy, i, p) for policy, i, p in zip(policies, indices, packed[1], strict=True)]
    return Drawn(indices, stops, [bool(f) for f in packed[2]])


def stop_reason(policy: Policy, index: int, eos_p: float) -> str | None:
    """`eos` was drawn, or `eos_p`: its probability reached the limit. At temperature 0 only argmax decides."""
    if policy.eos is None:
        return None
    if index == policy.eos:
        return "eos"
    limit_reached = policy.min_eos_p is not None and eos_p >= policy.min_eos_p
    return "eos_p" if limit_reached and policy.temperature > 0 else None


def keep_likely(logits: Tensor, policy: Policy) -> Tensor:
    """logits (W,) with everything outside top_p and top_k at minus infinity."""
    if policy.top_p is not None:
        ordered, order = logits.sort(descending=True, stable=True)
        remove = torch.softmax(ordered, dim=-1).cumsum(-1) > policy.top_p
        remove[1:] = remove[:-1].clone()  # the first one above the limit stays
        remove[0] = False
        logits = logits.masked_fill(remove[order.argsort()], -torch.inf)
    if policy.top_k is not None:
        floor = logits.topk(min(policy.top_k, logits.shape[-1])).values[-1]
        logits = logits.masked_fill(logits < floor, -torch.inf)
    return logits
