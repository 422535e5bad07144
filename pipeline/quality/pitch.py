"""The pitch of clips by autocorrelation: the median of the fundamental frequency, and how far it moves."""

import numpy as np

from pipeline.spec import SAMPLE_RATE

STEP = 4  # samples are averaged in groups of four: 6 kHz are enough for a pitch of 500 Hz
RATE = SAMPLE_RATE // STEP  # Hz
WINDOW = RATE // 20  # samples: 50 ms, three periods of a low voice
EVERY = 2  # of the windows side by side one is asked: a tenth of a second is enough for a median
LOWEST_HZ, HIGHEST_HZ = 60, 500
FFT = 512  # at least WINDOW plus the longest lag
VOICED = 0.5  # of its own power, a voiced window repeats after one period
OCTAVE = 0.9  # the shortest lag that is nearly as good as the best one is the period, and not a multiple of it
LEVEL_BELOW_SPEECH_DB = 25.0  # quieter windows are not asked
MIN_WINDOWS = 4  # voiced ones, of 0.4 s; with less there is no telling


def measure(clips: list[np.ndarray], speech_level: np.ndarray) -> tuple[list[float | None], list[float | None]]:
    """The median pitch (Hz) and its spread (standard deviation, semitones) of each clip of int16 samples.

    Args:
        speech_level: (C,) dBFS.
    """
    windows, owners = [], []
    for i, clip in enumerate(clips):
        count = clip.size // (WINDOW * STEP)
        asked = clip[: count * WINDOW * STEP].reshape(count, WINDOW, STEP)[::EVERY]
        kept = asked.mean(axis=2, dtype=np.float32) / 32767
        kept -= kept.mean(axis=1, keepdims=True)
        threshold = 10 ** ((speech_level[i] - LEVEL_BELOW_SPEECH_DB) / 10)
        kept = kept[np.einsum("ij,ij->i", kept, kept) > max(threshold, 1e-8) * WINDOW]
        windows.append(kept)
        owners.append(len(kept))
    pitches = np.split(find_pitch(np.concatenate(windows)), np.cumsum(owners)[:-1])
    medians: list[float | None] = []
    spreads: list[float | None] = []
    for each in pitches:
        voiced = each[each > 0]
        enough = voiced.size >= MIN_WINDOWS
        medians.append(float(np.median(voiced)) if enough else None)
        spreads.append(float(12 * np.log2(voiced).std()) if enough else None)
    return medians, spreads


def find_pitch(windows: np.ndarray) -> np.ndarray:
    """(W, 300) windows at 6 kHz -> (W,) Hz; 0 where a window is not voiced."""
    if not len(windows):
        return np.zeros(0)
    spectrum = np.fft.rfft(windows, FFT)
    correlation = np.fft.irfft(np.square(spectrum.real) + np.square(spectrum.imag), FFT)
    shortest, longest = RATE // HIGHEST_HZ, RATE // LOWEST_HZ
    # fewer samples overlap at longer lags
    lags = np.arange(shortest, longest + 1)
    strength = correlation[:, lags] / (correlation[:, :1] * ((WINDOW - lags) / WINDOW) + 1e-12)
    best = strength.max(axis=1)
    is_peak = strength >= OCTAVE * best[:, None]
    # the first lag of the first group that is good enough, then up its slope to the peak
    first = is_peak.argmax(axis=1)
    rows = np.arange(len(windows))
    for _ in range(8):
        following = np.minimum(first + 1, len(lags) - 1)
        first = np.where(strength[rows, following] > strength[rows, first], following, first)
    return np.where(best > VOICED, RATE / (lags[first] + vertex(strength, first)), 0.0)


def vertex(strength: np.ndarray, peak: np.ndarray) -> np.ndarray:
    """How far the top of the parabola through each peak and its neighbors is from the peak, -0.5 to 0.5 lags."""
    rows = np.arange(len(peak))
    inner = np.clip(peak, 1, strength.shape[1] - 2)
    left, top, right = (strength[rows, inner + i] for i in (-1, 0, 1))
    bend = left - 2 * top + right
    return np.where(
        (inner == peak) & (bend < 0), np.clip((left - right) / (2 * np.minimum(bend, -1e-9)), -0.5, 0.5), 0.0
    )
