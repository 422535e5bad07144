"""Two codebooks to eight: in windows of 1024 frames, codebooks 2 to 7 are predicted one after the other.

Source: suno-ai/bark `generation.py`, `generate_fine`.
"""

from collections import deque
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from pipeline import spec
from pipeline.bark.stage import DoneCallback, Stats, Utterance
from pipeline.engine.random import Key, exponential, make_key
from pipeline.errors import RowError
from pipeline.model.fine import FineGPT


@dataclass
class FineJob:
    """One utterance and its current window. `codes` (T, Q) int64: voice, frames, padding to 1024."""

    codes: Tensor
    num_history: int
    num_frames: int
    key: Key
    temperature: float
    done: DoneCallback
    window: int = 0

    @property
    def num_windows(self) -> int:
        return max(0, -(-(self.num_frames - (spec.FINE_WINDOW - self.num_history)) // spec.FINE_HOP)) + 1

    def view(self) -> "Window":
        """The current window. The last one is right-aligned, so some of its frames are predicted again."""
        last = len(self.codes) - spec.FINE_WINDOW
        start = min(self.window * spec.FINE_HOP, last)
        fill = min(self.num_history + self.window * spec.FINE_HOP, last + spec.FINE_HOP) - start
        end = min(self.num_history + self.num_frames - start, spec.FINE_WINDOW)
        return Window(self.codes[start : start + spec.FINE_WINDOW], fill, end)


@dataclass(frozen=True)
class Window:
    """A view (1024, Q) of an utterance's codes. Frames from `fill` on are predicted, those from `end` on padding."""

    codes: Tensor
    fill: int
    end: int


BATCH = {"cpu": 1, "cuda": 4}  # windows in one pass. A CPU reaches its matrix rate with one


class FineStage:
    """The fine transformer; `step` predicts one window of each of the next few utterances.

    All passes have the same number of windows of 1024 frames (the last one is repeated to fill it). Since the shape
    never changes, the arithmetic can't depend on the number of utterances.
    """

    def __init__(self, model: FineGPT):
        self.model = model
        self.device = model.wpe.weight.device
        self.batch = BATCH[self.device.type]
        self.jobs: deque[FineJob] = deque()
        self.passes = 0
        self.windows = 0

    def submit(self, utterance: Utterance, x: np.ndarray, done: DoneCallback) -> None:
        """Queue coarse codes x (2, F); `done` gets (8, F)."""
        num_frames = x.shape[1]
        empty = np.full((spec.NUM_CODEBOOKS - x.shape[0], num_frames), spec.FINE_PAD)
        codes = np.concatenate([x, empty])
        num_history = 0
        if utterance.voice:
            num_history = utterance.voice.fine_history.shape[1]
            codes = np.concatenate([utterance.voice.fine_history, codes], axis=1)
        # The model is not causal. A short utterance is padded to a whole window, and the padding is predicted too,
        # because each codebook reads the earlier codebooks of all frames.
        pad = max(0, spec.FINE_WINDOW - codes.shape[1])
        codes = np.pad(codes, ((0, 0), (0, pad)), constant_values=spec.FINE_PAD)
        key = make_key(utterance.seed, "fine")
        temperature = utterance.sampling.fine_temperature
        frames_first = torch.from_numpy(codes.T.copy()).to(self.device)
        self.jobs.append(FineJob(frames_first, num_history, num_frames, key, temperature, done))

    @torch.inference_mode()
    def step(self) -> bool:
        if not self.jobs:
            return False
        jobs = [self.jobs.popleft() for _ in range(min(self.batch, len(self.jobs)))]
        unfinished = []
        for job, finite in zip(jobs, self._windows(jobs), strict=True):
            job.window += 1
            if finite and job.window < job.num_windows:
                unfinished.append(job)
                continue
            codes = job.codes[job.num_history : job.num_history + job.num_frames].T.cpu().numpy()  # (8, F)
            job.done(codes if finite else RowError("not_finite", "the fine model's output is not finite"))
        self.jobs.extendleft(reversed(unfinished))
        return bool(self.jobs)

    def _windows(self, jobs: list[FineJob]) -> list[bool]:
        """Predict codebooks 2..7 of one window of each job, in place; returns whether each output is finite."""
        views = [job.view() for job in jobs]
        codes = torch.stack([view.codes for view in views + views[-1:] * (self.batch - len(views))])  # (B, 1024, Q)
        finite = [torch.ones((), dtype=torch.bool, device=self.device) for _ in jobs]
        for codebook in range(spec.NUM_COARSE_CODEBOOKS, spec.NUM_CODEBOOKS):
            first, end = self._frames_to_predict(views, codebook)
            logits = self.model(codes, codebook, first, end)  # (B, end - first, 1024)
            for i, (job, view) in enumerate(zip(jobs, views, strict=True)):
                own = logits[i, view.fill - first :]
                finite[i] &= torch.isfinite(own.sum())
                codes[i, view.fill : view.fill + len(own), codebook] = self._sample(own, job, codebook, view.fill)
        for i, view in enumerate(views):
            view.codes[view.fill :] = codes[i, view.fill :]
        self.passes += 1
        self.windows += len(jobs)
        return torch.stack(finite).tolist()

    def _frames_to_predict(self, views: list[Window], codebook: int) -> tuple[int, int | None]:
        """The first frame to predict and the one after the last (None: the end of the window).

        With one window per pass: without the frames of the window before and, in the last codebook, without the
        padding, which is not read. In a batch: all frames, so that no row's shape depends on another row.
        """
        if self.batch > 1:
            return 0, None
        return views[0].fill, views[0].end if codebook == spec.NUM_CODEBOOKS - 1 else None

    def _sample(self, logits: Tensor, job: FineJob, codebook: int, fill: int) -> Tensor:
        """Sample codes (T,) from logits (T, 1024). A frame's noise follows from its window, codebook and position."""
        if job.temperature == 0:
            return logits.argmax(-1)
        first = (job.window * spec.NUM_CODEBOOKS + codebook) * spec.FINE_WINDOW + fill
        steps = list(range(first, first + len(logits)))
        noise = exponential([job.key] * len(logits), steps, spec.CODEBOOK_SIZE, logits.device)
        return (torch.softmax(logits / job.temperature, dim=-1) / noise).argmax(-1)

    @property
    def stats(self) -> Stats:
        partial = sum(job.window / job.num_windows for job in list(self.jobs))  # a copy: another thread runs `step`
        return Stats(self.windows * spec.FINE_HOP, self.windows, self.passes * self.batch, partial)
