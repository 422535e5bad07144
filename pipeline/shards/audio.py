"""Encodes samples as sound files. Floats become int16 here: libsndfile rounds them differently for WAV and FLAC."""

import io
from dataclasses import dataclass

import numpy as np
import soundfile

from pipeline import spec

SUBTYPES = {"flac": "PCM_16", "wav": "PCM_16", "mp3": "MPEG_LAYER_III"}


def to_int16(samples: np.ndarray) -> np.ndarray:
    """(N,) float32 -> (N,) int16: limited to -1..1, rounded to the nearest step."""
    return np.rint(np.clip(samples, -1.0, 1.0) * 32767.0).astype(np.int16)


@dataclass(frozen=True)
class Clip:
    """One Bark pass at half the memory of the codec's output."""

    samples: np.ndarray  # (N,) int16
    peak: float  # largest |sample| before it was limited to 1

    @classmethod
    def of(cls, samples: np.ndarray) -> "Clip":
        return cls(to_int16(samples), float(np.abs(samples).max(initial=0.0)))


def encode(samples: np.ndarray, audio_format: str) -> bytes:
    """(N,) int16 samples at 24 kHz as a flac, wav or mp3 file; the same samples give the same bytes."""
    buffer = io.BytesIO()  # an encoder that fails on a real file would leave it incomplete
    soundfile.write(buffer, samples, spec.SAMPLE_RATE, format=audio_format.upper(), subtype=SUBTYPES[audio_format])
    return buffer.getvalue()


def decode(content: bytes) -> np.ndarray:
    """The samples (N,) int16 of a sound file with one channel."""
    samples: np.ndarray = soundfile.read(io.BytesIO(content), dtype="int16")[0]
    return samples
