"""Eight codebooks to samples.

Source: suno-ai/bark `generation.py`, `codec_decode`.
"""

from collections import deque

import numpy as np
import torch

from pipeline import spec
from pipeline.bark.stage import DoneCallback, Stats, Utterance
from pipeline.errors import RowError
from pipeline.model.codec import Codec

BATCH = {"cpu": 1, "cuda": 8}  # utterances in one pass. On a CPU a batch is slower per second of audio
PADDED_TO = spec.COARSE_RATE_HZ  # frames, in a batch: all utterances of a pass have the same length in whole seconds
DecodeJob = tuple[np.ndarray, DoneCallback]


class DecodeStage:
    """EnCodec's decoder, always in float32; `step` is one pass over a few utterances.

    In a batch, all passes have the same number of utterances (the last one is repeated to fill it), padded on the right
    to a length that follows from each one's own. So a row's arithmetic can't depend on what else is in the batch.
    Memory is bounded, since an utterance has 15 s at most.
    """

    def __init__(self, codec: Codec, device: torch.device):
        self.codec = codec.to(device)
        self.device = device
        self.batch = BATCH[device.type]
        self.jobs: dict[int, deque[DecodeJob]] = {}  # by padded length; the length that has waited longest is first
        self.frames = self.utterances = self.passes = 0

    def submit(self, utterance: Utterance, x: np.ndarray, done: DoneCallback) -> None:
        """Queue codes x (8, F); `done` gets (N,) float32 samples, N = 320 F, not clipped."""
        self.jobs.setdefault(self._padded(x.shape[1]), deque()).append((x, done))

    def step(self) -> bool:
        if not self.jobs:
            return False
        length = next(iter(self.jobs))
        waiting = self.jobs.pop(length)
        jobs = [waiting.popleft() for _ in range(min(self.batch, len(waiting)))]
        if waiting:
            self.jobs[length] = waiting  # now the last length
        for (codes, done), samples in zip(jobs, self._decode([codes for codes, _ in jobs], length), strict=True):
            clip = samples[: codes.shape[1] * spec.SAMPLES_PER_FRAME]
            is_finite = bool(np.isfinite(clip).all())
            done(clip if is_finite else RowError("not_finite", "the codec's output is not finite"))
        return bool(self.jobs)

    def _padded(self, num_frames: int) -> int:
        if self.batch == 1 or num_frames < self.codec.least_padded:
            return num_frames
        return -(-num_frames // PADDED_TO) * PADDED_TO

    def _decode(self, codes: list[np.ndarray], length: int) -> np.ndarray:
        """Decode codes (8, F) each, F <= `length` -> samples (len(codes), 320 * length) float32."""
        filled = codes + codes[-1:] * (self.batch - len(codes))
        padded = np.stack([np.pad(each, ((0, 0), (0, length - each.shape[1]))) for each in filled]).astype(np.int64)
        self.frames += sum(each.shape[1] for each in codes)
        self.utterances += len(codes)
        self.passes += 1
        return self.codec.decode(torch.from_numpy(padded).to(self.device))[: len(codes)].cpu().numpy()

    @property
    def stats(self) -> Stats:
        return Stats(self.frames, self.utterances, self.passes * self.batch)
