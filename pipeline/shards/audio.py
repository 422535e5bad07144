"""Samples to file bytes. int16 is made here: libsndfile rounds floats differently for WAV and FLAC."""

import io

import numpy as np
import soundfile

from pipeline import spec

SUBTYPES = {"flac": "PCM_16", "wav": "PCM_16", "mp3": "MPEG_LAYER_III"}


def to_int16(samples: np.ndarray) -> np.ndarray:
    """(N,) float32 -> (N,) int16: limited to -1..1, rounded to the nearest step."""
    return np.rint(np.clip(samples, -1.0, 1.0) * 32767.0).astype(np.int16)


def encode(samples: np.ndarray, audio_format: str) -> bytes:
    """(N,) float32 samples at 24 kHz -> a whole file; the same samples give the same bytes (flac, wav, mp3)."""
    buffer = io.BytesIO()  # always memory: an encoder that fails on a real file leaves half of it
    soundfile.write(
        buffer, to_int16(samples), spec.SAMPLE_RATE, format=audio_format.upper(), subtype=SUBTYPES[audio_format]
    )
    return buffer.getvalue()
