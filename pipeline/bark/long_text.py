"""A long text is spoken in segments, one Bark pass each: their seeds, and how their sounds are joined."""

from collections.abc import Sequence

import numpy as np

from pipeline import spec
from pipeline.engine.random import make_key
from pipeline.sampling import MAX_SEED


def segment_seed(seed: int, segment: int) -> int:
    """The seed of a row's n-th segment. The first keeps the row's own: a short text sounds the same with or without
    splitting."""
    if segment == 0:
        return seed
    low, high = make_key("segment", seed, segment)
    return (high << 32 | low) & MAX_SEED


def join(clips: Sequence[np.ndarray], pause_s: float) -> np.ndarray:
    """Concatenate clips, (N,) each, with `pause_s` seconds of silence between them -> (N,) of the clips' dtype."""
    pause = np.zeros(round(pause_s * spec.SAMPLE_RATE), clips[0].dtype if clips else np.float32)
    parts = [part for clip in clips for part in (pause, clip)][1:]
    return np.concatenate(parts) if parts else pause[:0]
