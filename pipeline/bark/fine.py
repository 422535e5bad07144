"""Two codebooks to eight: windows of 1024 frames, codebooks 2 to 7 one after another in each.

Source: suno-ai/bark `generation.py`, `generate_fine`.
"""

from collections import deque
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from pipeline import spec
from pipeline.bark.stage import Done, Stats, Utterance
from pipeline.engine.noise import Key, exponential, make_key
from pipeline.errors import RowError
from pipeline.model.fine import FineGPT


@dataclass
class Job:
    """One utterance on its way through its windows. `codes` (T, Q) int64: voice, frames, padding to 1024."""

    codes: Tensor
    num_history: int
    num_frames: int
    key: Key
    temperature: float
    done: Done
    window: int = 0

    @property
    def num_windows(self) -> int:
        return max(0, -(-(self.num_frames - (spec.FINE_WINDOW - self.num_history)) // spec.FINE_HOP)) + 1


class FineStage:
    """The fine transformer; `step` is one window of one utterance.

    A window is always 1024 frames, so its arithmetic can't depend on other rows, and it runs at the machine's
    matrix rate alone.
    """

    def __init__(self, model: FineGPT):
        self.model = model
        self.device = model.wpe.weight.device
        self.jobs: deque[Job] = deque()
        self.windows = 0

    def submit(self, utterance: Utterance, x: np.ndarray, done: Done) -> None:
        """x (2, F) coarse codes; `done` gets (8, F)."""
        num_frames = x.shape[1]
        empty = np.full((spec.NUM_CODEBOOKS - x.shape[0], num_frames), spec.FINE_PAD)
        codes = np.concatenate([x, empty])
        num_history = 0
        if utterance.voice:
            num_history = utterance.voice.fine_history.shape[1]
            codes = np.concatenate([utterance.voice.fine_history, codes], axis=1)
        # The model is not causal: a short utterance is padded to a whole window, and its padding is predicted too,
        # because each codebook reads what the ones before made of every frame.
        pad = max(0, spec.FINE_WINDOW - codes.shape[1])
        codes = np.pad(codes, ((0, 0), (0, pad)), constant_values=spec.FINE_PAD)
        key = make_key(utterance.seed, "fine")
        temperature = utterance.sampling.fine_temperature
        frames_first = torch.from_numpy(codes.T.copy()).to(self.device)
        self.jobs.append(Job(frames_first, num_history, num_frames, key, temperature, done))

    @torch.inference_mode()
    def step(self) -> bool:
        if not self.jobs:
            return False
        job = self.jobs[0]
        finite = self._window(job)
        job.window += 1
        if not finite or job.window == job.num_windows:
            self.jobs.popleft()
            made = job.codes[job.num_history : job.num_history + job.num_frames].T.cpu().numpy()  # (8, F)
            job.done(made if finite else RowError("not_finite", "the fine model's output is not finite"))
        return bool(self.jobs)

    def _window(self, job: Job) -> bool:
        """Predict codebooks 2..7 for one window, in place; False where the model's output is not finite."""
        last = len(job.codes) - spec.FINE_WINDOW
        start = min(job.window * spec.FINE_HOP, last)  # the last window is right-aligned: some frames are redone
        fill = min(job.num_history + job.window * spec.FINE_HOP, last + spec.FINE_HOP) - start
        window = job.codes[start : start + spec.FINE_WINDOW]  # a view: what is written here is written in the job
        finite = True
        for codebook in range(spec.NUM_COARSE_CODEBOOKS, spec.NUM_CODEBOOKS):
            logits = self.model(window[None], codebook, fill)[0]  # (1024 - fill, 1024)
            finite &= bool(torch.isfinite(logits.sum()))
            window[fill:, codebook] = self._draw(logits, job, codebook, fill)
        self.windows += 1
        return finite

    def _draw(self, logits: Tensor, job: Job, codebook: int, fill: int) -> Tensor:
        """logits (T, 1024) -> codes (T,). The noise of a frame follows from its window, codebook and place in it."""
        if job.temperature == 0:
            return logits.argmax(-1)
        first = (job.window * spec.NUM_CODEBOOKS + codebook) * spec.FINE_WINDOW + fill
        steps = list(range(first, first + len(logits)))
        noise = exponential([job.key] * len(logits), steps, spec.CODEBOOK_SIZE, logits.device)
        return (torch.softmax(logits / job.temperature, dim=-1) / noise).argmax(-1)

    @property
    def stats(self) -> Stats:
        return Stats(self.windows * spec.FINE_HOP, self.windows, self.windows)
