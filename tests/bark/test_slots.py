"""How many slots a device's memory admits."""

from pathlib import Path

import pytest
import torch

from pipeline import Bark
from pipeline.bark import slots
from pipeline.errors import ConfigError


def test_more_slots_than_memory_are_refused_before_anything_is_allocated(
    tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slot = 2 * 2 * 1024 * 32 * 4  # keys and values, 2 layers, 1024 positions, 32 wide, float32
    monkeypatch.setattr(slots, "free_bytes", lambda device: 11 * slot)
    with pytest.raises(ConfigError, match=r"slots: 16 need .* GiB are free on cpu: ask for 8"):
        Bark.load(tiny, device="cpu", slots=16)
    Bark.load(tiny, device="cpu", slots=8)
    monkeypatch.setattr(slots, "free_bytes", lambda device: slot - 1)
    with pytest.raises(ConfigError, match="not even one fits"):
        Bark.load(tiny, device="cpu", slots=1)


def test_where_the_system_does_not_say_slots_are_admitted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slots, "free_bytes", lambda device: None)
    slots.admit(10**6, 10**9, torch.device("cpu"))
