"""The cache on a CPU: the memory of a slot, and its release when no slot is busy."""

import psutil
import pytest
import torch

from pipeline.engine.kv_cache import KVCache

SHAPE = {"n_layer": 2, "n_head": 4, "head_width": 64, "slots": 4, "positions": 500, "device": torch.device("cpu")}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_slot_costs_its_keys_and_values(dtype: torch.dtype) -> None:
    cache = KVCache(**SHAPE, dtype=dtype)  # type: ignore[arg-type]
    assert cache.bytes_per_slot == 2 * 2 * 4 * 500 * 64 * dtype.itemsize
    assert cache.itemsize == dtype.itemsize


def test_memory_is_as_stated_and_is_released() -> None:
    cache = KVCache(**SHAPE | {"positions": 8000}, dtype=torch.float32)  # type: ignore[arg-type]
    stated, process = 4 * cache.bytes_per_slot, psutil.Process()  # 131 MB
    before = process.memory_info().rss
    for layer in (*cache.k, *cache.v):
        layer.fill_(1.0)
    del layer
    assert 0.9 * stated < process.memory_info().rss - before < 1.1 * stated
    cache.release()
    assert process.memory_info().rss - before < 0.1 * stated
    assert not cache.k[0].any()
