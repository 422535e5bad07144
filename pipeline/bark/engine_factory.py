"""Builds the engine of a stage that decodes in slots. Here, because `engine` and `model` don't import each other."""

import torch

from pipeline.bark.stage import Stats, is_good_slots
from pipeline.engine.engine import Engine
from pipeline.engine.kv_cache import KVCache
from pipeline.errors import ConfigError
from pipeline.kernels.memory import free_bytes
from pipeline.model.gpt import GPT


def make_engine(model: GPT, slots: int, positions: int) -> Engine:
    """An engine for a model, with a KV cache of `slots` times `positions` on the model's device.

    Raises:
        ConfigError: the cache doesn't fit into the device's free memory.
    """
    config, weight = model.config, model.wte.weight
    dtype = model.cache_dtype or weight.dtype
    check_free_memory(slots, 2 * config.n_layer * positions * config.n_embd * dtype.itemsize, weight.device)
    cache = KVCache(
        n_layer=config.n_layer,
        n_head=config.n_head,
        head_width=config.n_embd // config.n_head,
        slots=slots,
        positions=positions,
        dtype=dtype,
        device=weight.device,
    )
    return Engine(model, cache, weight.device)


def check_free_memory(slots: int, slot_bytes: int, device: torch.device) -> None:
    """Check that the slots' caches fit, before they are allocated. On CUDA an allocation would fail halfway; on a CPU
    the process would be killed hours later, when the last slot is filled.

    Raises:
        ConfigError: they don't fit; says how many slots would.
    """
    free = free_bytes(device)
    if free is None or slots * slot_bytes <= free:
        return
    fitting = max(n for n in range(slots) if n == 0 or (is_good_slots(n) and n * slot_bytes <= free))
    need = f"{slots * slot_bytes / 2**30:.1f} GiB for keys and values, {free / 2**30:.1f} GiB are free on {device}"
    raise ConfigError(f"slots: {slots} need {need}: " + (f"use {fitting}" if fitting else "not even one fits"))


def engine_stats(engine: Engine) -> Stats:
    """The engine's counters as a stage's statistics."""
    return Stats(engine.tokens, engine.busy_slot_steps, engine.steps * engine.cache.slots, engine.partial)
