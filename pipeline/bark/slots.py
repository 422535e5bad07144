"""The engine of a stage that decodes in slots: its model and its cache on one device."""

import torch

from pipeline.bark.stage import Stats
from pipeline.engine.engine import Engine
from pipeline.engine.kv_cache import KVCache
from pipeline.model.gpt import GPT


def make_engine(model: GPT, slots: int, positions: int, device: torch.device, dtype: torch.dtype) -> Engine:
    """An engine with its cache, on one device."""
    config = model.config
    cache = KVCache(
        n_layer=config.n_layer,
        n_head=config.n_head,
        head_width=config.n_embd // config.n_head,
        slots=slots,
        positions=positions,
        dtype=dtype,
        device=device,
    )
    return Engine(model.to(device, dtype), cache, device)


def engine_stats(engine: Engine) -> Stats:
    return Stats(engine.tokens, engine.busy_slot_steps, engine.steps * engine.cache.slots)
