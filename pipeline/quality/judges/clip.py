"""What a judge listens to, and what it is."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import numpy as np

from pipeline.spec import SAMPLE_RATE

JUDGE_RATE = 16_000  # Hz, of all judges
Scores = dict[str, Any]  # columns of a segment; those of a row are made of them (`rows.py`)


@dataclass(frozen=True)
class HeardClip:
    """One segment's clip, with what it should say and who should say it."""

    samples: np.ndarray  # (N,) int16 at 24 kHz
    text: str
    language: str | None
    voice: str | None

    @cached_property
    def for_judges(self) -> np.ndarray:
        """(M,) float32 at 16 kHz."""
        return resample(self.samples.astype(np.float32) / 32767)


class Judge(Protocol):
    def judge(self, clip: HeardClip) -> Scores:
        """The scores of one clip, which do not depend on other clips. Called from several threads."""


def judge_all(judges: Mapping[str, Judge], clip: HeardClip) -> Scores:
    """The scores of all judges for one clip."""
    scores: Scores = {}
    for judge in judges.values():
        scores |= judge.judge(clip)
    return scores


def resample(samples: np.ndarray) -> np.ndarray:
    """(N,) float at 24 kHz -> (ceil(2 N / 3),) float32 at 16 kHz, without what is above 8 kHz, by Fourier transform."""
    padded = np.pad(samples, (0, -samples.size % 960))
    if not padded.size:
        return np.zeros(0, np.float32)
    size = padded.size * JUDGE_RATE // SAMPLE_RATE
    spectrum = np.fft.rfft(padded)[: size // 2 + 1]
    spectrum[-1] = 0  # the new half rate
    resampled = np.fft.irfft(spectrum, size) * (size / padded.size)
    return resampled[: -(-samples.size * JUDGE_RATE // SAMPLE_RATE)].astype(np.float32)
