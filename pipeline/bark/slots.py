"""The engine of a stage that decodes in slots: its model and its cache on one device."""

from pipeline.bark.stage import Stats
from pipeline.engine.engine import Engine
from pipeline.engine.kv_cache import KVCache
from pipeline.model.gpt import GPT


def make_engine(model: GPT, slots: int, positions: int) -> Engine:
    """An engine with its cache, where the model is."""
    config, weight = model.config, model.wte.weight
    cache = KVCache(
        n_layer=config.n_layer,
        n_head=config.n_head,
        head_width=config.n_embd // config.n_head,
        slots=slots,
        positions=positions,
        dtype=weight.dtype,
        device=weight.device,
    )
    return Engine(model, cache, weight.device)


def engine_stats(engine: Engine) -> Stats:
    return Stats(engine.tokens, engine.busy_slot_steps, engine.steps * engine.cache.slots)
