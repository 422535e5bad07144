"""A row made of its segments: joined, or failed because of one of them or of its length (Arrow's limit for a value)."""

import numpy as np
import pytest

from pipeline.flow import segments
from pipeline.flow.segments import merge_segments, pack
from pipeline.shards.audio import Clip
from pipeline.shards.writer import FailedRow, WrittenRow


def segment(frames: int) -> segments.Segment:
    return {"row": 0, "seed": 1, "sampling": {}, "num_semantic": 2, "stop": "eos", "codes": pack(np.zeros((8, frames)))}


def test_length_limit_includes_the_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    made = [(segment(3), Clip(np.ones(960, np.int16), peak)) for peak in (0.25, 0.5, 0.125)]
    monkeypatch.setattr(segments, "MAX_ROW_SAMPLES", 3 * 960 + 2 * 240)
    spoken = merge_segments(made, pause_s=0.01, num_codebooks=8)
    assert isinstance(spoken, WrittenRow) and spoken.samples.size == 3 * 960 + 2 * 240 and spoken.peak == 0.5
    refused = merge_segments(made, pause_s=0.02, num_codebooks=8)
    assert isinstance(refused, FailedRow) and refused.error.kind == "too_long" and "at most 12" in str(refused.error)
