"""Sound processing on samples: trim to the speech, fade, limit the true peak. numpy only."""

from functools import lru_cache

import numpy as np

from pipeline.spec import SAMPLE_RATE

FRAME = SAMPLE_RATE // 100  # 10 ms
SPEECH_DB = -40.0  # a frame counts as speech down to so far below the loudest
SILENCE_DB = -60.0  # and only above this level, in dBFS
FADE = SAMPLE_RATE // 200  # 5 ms
LOOK_AHEAD = SAMPLE_RATE // 200
OVERSAMPLING, TAPS = 4, 12  # of the true peak: ITU-R BS.1770-4, annex 2


def trim(samples: np.ndarray, margin: int) -> np.ndarray:
    """(N,) float32 -> from the first to the last speech, with so many samples around it; all if there is no speech."""
    frames = len(samples) // FRAME
    if not frames:
        return samples
    power = np.square(samples[: frames * FRAME], dtype=np.float64).reshape(frames, FRAME).mean(axis=1)
    level = 10 * np.log10(np.maximum(power, 1e-12))
    speech = np.flatnonzero((level > level.max() + SPEECH_DB) & (level > SILENCE_DB))
    if not speech.size:
        return samples
    return samples[max(0, speech[0] * FRAME - margin) : (speech[-1] + 1) * FRAME + margin]


def fade(samples: np.ndarray) -> np.ndarray:
    """The samples with an equal-power fade of 5 ms at both ends, so that no joint with silence is heard."""
    size = min(FADE, len(samples) // 2)
    if not size:
        return samples * 0
    curve = np.sin(np.pi / 2 * np.arange(size) / size).astype(np.float32)
    faded = samples.astype(np.float32, copy=True)
    faded[:size] *= curve
    faded[-size:] *= curve[::-1]
    return faded


def envelope(samples: np.ndarray) -> np.ndarray:
    """(N,) the largest magnitude at and between the samples, as after conversion to a continuous signal."""
    peak = np.abs(samples)
    for kernel in interpolators():
        between = np.convolve(samples, kernel, "same")
        np.maximum(peak, np.abs(between), out=peak)
    return peak


@lru_cache
def interpolators() -> list[np.ndarray]:
    """Windowed-sinc filters for the points between two samples, one for each quarter."""
    at = np.arange(-TAPS, TAPS + 1)
    kernels = []
    for part in range(1, OVERSAMPLING):
        x = at - part / OVERSAMPLING
        kernel = np.sinc(x) * np.cos(np.pi * x / (2 * TAPS + 2)) ** 2
        kernels.append((kernel / kernel.sum()).astype(np.float32))
    return kernels


def limit(samples: np.ndarray, ceiling: float) -> np.ndarray:
    """The samples (N,) float32 with a true peak of at most `ceiling`: turned down smoothly around each peak, and
    unchanged where there is none."""
    if np.abs(samples).max(initial=0.0) < ceiling / 2:  # between two samples a signal rises by less than that
        return samples
    peak = envelope(samples)
    if peak.max() <= ceiling:
        return samples
    need = np.minimum(1.0, ceiling / np.maximum(peak, 1e-9))
    window = 2 * LOOK_AHEAD + 1
    padded = np.pad(need, 2 * LOOK_AHEAD, mode="edge")
    lowest = np.lib.stride_tricks.sliding_window_view(padded, window).min(axis=1)
    total = np.cumsum(np.concatenate([[0.0], lowest]))
    gain = (total[window:] - total[:-window]) / window
    return (samples * gain).astype(np.float32)


def silence(seconds: float) -> np.ndarray:
    return np.zeros(round(seconds * SAMPLE_RATE), np.float32)


def tone() -> np.ndarray:
    """A soft tone of 0.3 s, in the place of a missing sentence."""
    at = np.arange(round(0.3 * SAMPLE_RATE))
    return fade((0.05 * np.sin(2 * np.pi * 440 * at / SAMPLE_RATE)).astype(np.float32))


def to_gain(decibels: float) -> float:
    return float(10 ** (decibels / 20))
