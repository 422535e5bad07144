"""The cache on a CPU: what a slot costs, and memory that goes back when no slot is busy."""

import psutil
import pytest
import torch

from pipeline.engine.kv_cache import KVCache

SHAPE = {"n_layer": 2, "n_head": 4, "head_width": 64, "slots": 4, "positions": 500, "device": torch.device("cpu")}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_slot_costs_its_keys_and_values(dtype: torch.dtype) -> None:
    cache = KVCache(**SHAPE, dtype=dtype)  # type: ignore[arg-type]
    assert cache.bytes_per_slot == 2 * 2 * 4 * 500 * 64 * dtype.itemsize
    assert cache.itemsize == dtype.itemsize


def test_memory_is_what_is_said_and_leaves_the_process() -> None:
    cache = KVCache(**SHAPE | {"positions": 8000}, dtype=torch.float32)  # type: ignore[arg-type]
    said, process = 4 * cache.bytes_per_slot, psutil.Process()  # 131 MB
    before = process.memory_info().rss
    for held in (*cache.k, *cache.v):
        held.fill_(1.0)
    del held
    assert 0.9 * said < process.memory_info().rss - before < 1.1 * said
    cache.release()
    assert process.memory_info().rss - before < 0.1 * said
    assert not cache.k[0].any()
