"""Finds loops: a stretch of speech that sounds like an earlier one, as when a model says the same thing again."""

from functools import lru_cache

import numpy as np

from pipeline.spec import SAMPLE_RATE

BANDS = 20
LOWEST_HZ, HIGHEST_HZ = 100, 8000
STRETCH = 24  # frames of 25 ms: 0.6 s, longer than most words that a text repeats
MIN_LAG = 12  # frames: 0.3 s. Nearer than that, a long vowel is like itself
FLOOR_DB = -70.0


def similarity(power: np.ndarray, is_speech: np.ndarray) -> float | None:
    """How alike the two most similar stretches of 0.6 s are, 0 to 1; None if there are no two stretches.

    Args:
        power: spectra of 25 ms frames (F, 301).
        is_speech: (F,); a silent frame is like nothing.
    """
    if len(power) < STRETCH + MIN_LAG or not is_speech.any():
        return None
    shape = features(power, is_speech)
    alike = shape @ shape.T  # (F, F) cosine of each two frames
    count = len(shape)
    # Row t, column l of `lagged` is the likeness of frames t and t + l. An array whose rows are one longer than they
    # should be is read shifted by one in each row.
    padded = np.zeros((count, 2 * count), np.float32)
    padded[:, :count] = alike
    lagged = padded.reshape(-1)[: count * (2 * count + 1) - count].copy()
    lagged.resize(count * (2 * count + 1))
    lagged = lagged.reshape(count, 2 * count + 1)[:, MIN_LAG:count]
    sums = np.cumsum(lagged, axis=0, dtype=np.float32)
    means = (sums[STRETCH:] - sums[:-STRETCH]) / STRETCH
    return float(np.clip(means.max(initial=0.0), 0.0, 1.0))


def features(power: np.ndarray, is_speech: np.ndarray) -> np.ndarray:
    """The spectral shape of each frame as a unit vector, (F, 20): band levels minus the clip's mean; 0 if silent."""
    levels = 10 * np.log10(np.maximum(power @ bands(power.shape[1]), 10 ** (FLOOR_DB / 10)))
    levels -= levels[is_speech].mean(axis=0)
    levels[~is_speech] = 0
    return levels / np.maximum(np.linalg.norm(levels, axis=1, keepdims=True), 1e-6)


@lru_cache
def bands(num_frequencies: int) -> np.ndarray:
    """Which frequencies each band adds up, (num_frequencies, 20) float32: equal widths on the mel scale."""
    mel = 2595 * np.log10(1 + np.linspace(0, SAMPLE_RATE / 2, num_frequencies) / 700)
    low, high = (2595 * np.log10(1 + hz / 700) for hz in (LOWEST_HZ, HIGHEST_HZ))
    position = (mel - low) / (high - low) * (BANDS + 1)
    return np.maximum(0, 1 - np.abs(position[:, None] - np.arange(1, BANDS + 1))).astype(np.float32)
