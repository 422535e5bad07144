"""Slots are limited by a device's free memory."""

from pathlib import Path

import pytest
import torch

from pipeline import Bark
from pipeline.bark import engine_factory
from pipeline.errors import ConfigError
from pipeline.kernels.matmul_backends import matmul_available


def test_more_slots_than_memory_are_refused_before_anything_is_allocated(
    tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slot = 2 * 2 * 1024 * 32 * 4  # keys and values, 2 layers, 1024 positions, 32 wide, float32
    monkeypatch.setattr(engine_factory, "free_bytes", lambda device: 11 * slot)
    with pytest.raises(ConfigError, match=r"slots: 16 need .* GiB are free on cpu: use 8"):
        Bark.load(tiny, device="cpu", slots=16)
    Bark.load(tiny, device="cpu", slots=8)
    monkeypatch.setattr(engine_factory, "free_bytes", lambda device: slot - 1)
    with pytest.raises(ConfigError, match="not even one fits"):
        Bark.load(tiny, device="cpu", slots=1)


def test_slots_are_accepted_where_free_memory_is_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_factory, "free_bytes", lambda device: None)
    engine_factory.check_free_memory(10**6, 10**9, torch.device("cpu"))


@pytest.mark.skipif(not matmul_available("int8"), reason="this torch has no fbgemm")
@pytest.mark.parametrize(("quantize", "dtype"), [(None, torch.float32), ("int8", torch.bfloat16)])
def test_int8_caches_keys_and_values_as_bfloat16(tiny: Path, quantize: str | None, dtype: torch.dtype) -> None:
    bark = Bark.load(tiny, device="cpu", slots=4, quantize=quantize)
    for name in ("semantic", "coarse"):
        assert bark.stages[name].engine.cache.k[0].dtype == dtype  # type: ignore[attr-defined]
