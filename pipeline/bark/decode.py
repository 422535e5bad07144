"""Eight codebooks to samples, one utterance at a time.

Source: suno-ai/bark `generation.py`, `codec_decode`.
"""

from collections import deque

import numpy as np
import torch

from pipeline.bark.stage import Done, Stats, Utterance
from pipeline.errors import RowError
from pipeline.model.codec import Codec


class DecodeStage:
    """EnCodec's decoder, always in float32; `step` is one utterance."""

    def __init__(self, codec: Codec, device: torch.device):
        self.codec = codec.to(device)
        self.device = device
        self.jobs: deque[tuple[np.ndarray, Done]] = deque()
        self.frames = 0
        self.calls = 0

    def submit(self, utterance: Utterance, x: np.ndarray, done: Done) -> None:
        """x (8, F) codes; `done` gets (N,) float32 samples, N = 320 F, not clipped."""
        self.jobs.append((x, done))

    def step(self) -> bool:
        if not self.jobs:
            return False
        codes, done = self.jobs.popleft()
        self.frames += codes.shape[1]
        self.calls += 1
        samples = self.codec.decode(torch.from_numpy(codes.astype(np.int64)).to(self.device)).cpu().numpy()
        ok = bool(np.isfinite(samples).all())
        done(samples if ok else RowError("not_finite", "the codec's output is not finite"))
        return bool(self.jobs)

    @property
    def stats(self) -> Stats:
        return Stats(self.frames, self.calls, self.calls)
