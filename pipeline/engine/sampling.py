"""Samples one token per row from its logits, with Suno's filters in Suno's order.

top_p on the logits before temperature, then top_k, then temperature, then the sample. Temperature 0 is argmax.
Source: suno-ai/bark `generation.py`, `generate_text_semantic`.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from pipeline.engine.random import Key, exponential


@dataclass(frozen=True)
class SamplingParams:
    """How one request samples its tokens. `eos` is the index in its range that ends it, None without one."""

    key: Key
    temperature: float
    top_k: int | None = None
    top_p: float | None = None
    eos: int | None = None
    min_eos_p: float | None = None  # the request also ends where P(EOS) reaches this


@dataclass(frozen=True)
class SampledTokens:
    """Per row: the index in its range, why the row ends (None: it goes on), and whether its logits are finite."""

    indices: list[int]
    stops: list[str | None]
    finite: list[bool]


def sample(logits: Tensor, params_list: list[SamplingParams], steps: list[int]) -> SampledTokens:
    """logits (B, W) float32 -> one sample per row; row i depends on logits[i], params_list[i] and steps[i] only.

    Overwrites rows of `logits`.
    """
    W = logits.shape[1]
    for i, params in enumerate(params_list):
        if params.temperature > 0 and (params.top_p is not None or params.top_k is not None):
            logits[i] = apply_top_p_top_k(logits[i], params)
    greedy = torch.tensor([p.temperature == 0 for p in params_list], device=logits.device)
    temperatures = torch.tensor([p.temperature or 1.0 for p in params_list], device=logits.device)
    probs = torch.softmax(logits / temperatures[:, None], dim=-1)
    random = exponential([p.key for p in params_list], steps, W, logits.device)
    sampled = torch.where(greedy, logits.argmax(-1), (probs / random).argmax(-1))
    finite = torch.isfinite(probs.sum(-1))
    eos = torch.tensor([[p.eos or 0] for p in params_list], device=logits.device)
    eos_p = probs.gather(1, eos)[:, 0]
    packed = torch.stack([sampled.double(), eos_p.double(), finite.double()]).tolist()  # one transfer from the device
    indices = [int(i) for i in packed[0]]
    stops = [stop_reason(params, i, p) for params, i, p in zip(params_list, indices, packed[1], strict=True)]
    return SampledTokens(indices, stops, [bool(f) for f in packed[2]])


def stop_reason(params: SamplingParams, index: int, eos_p: float) -> str | None:
    """`eos`: EOS was sampled; `eos_p`: its probability reached the limit; None: neither. At temperature 0 only argmax
    decides."""
    if params.eos is None:
        return None
    if index == params.eos:
        return "eos"
    limit_reached = params.min_eos_p is not None and eos_p >= params.min_eos_p
    return "eos_p" if limit_reached and params.temperature > 0 else None


def apply_top_p_top_k(logits: Tensor, params: SamplingParams) -> Tensor:
    """logits (W,) -> a copy with everything outside top_p and top_k at minus infinity."""
    if params.top_p is not None:
        ordered, order = logits.sort(descending=True, stable=True)
        remove = torch.softmax(ordered, dim=-1).cumsum(-1) > params.top_p
        remove[1:] = remove[:-1].clone()  # the first id above the limit stays
        remove[0] = False
        logits = logits.masked_fill(remove[order.argsort()], -torch.inf)
    if params.top_k is not None:
        floor = logits.topk(min(params.top_k, logits.shape[-1])).values[-1]
        logits = logits.masked_fill(logits < floor, -torch.inf)
    return logits
