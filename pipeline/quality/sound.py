"""Measures how clips sound, from their samples alone: no model, no download, 4 ms for 10 s of speech.

All clips of a call are measured together. Their samples are laid out as one array of frames, so numpy is called once
per step and not once per clip: the clips of a shard are many and short.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pipeline.quality import loops, loudness, pitch
from pipeline.spec import SAMPLE_RATE

FRAME = SAMPLE_RATE // 40  # samples: 25 ms. 16 frames are a block of the loudness standard, 4 are its hop
FRAME_S = FRAME / SAMPLE_RATE
FULL_SCALE = 32767  # of int16
CLIPPED_RUN = 3  # samples at full scale in a row; speech below the limit reaches it in single samples only
SILENCE_BELOW_SPEECH_DB = 35.0  # a frame so far below the clip's loud frames is silent
SILENCE_DBFS = -60.0  # a frame below this is silent in any clip
LOUD, QUIET = 0.95, 0.10  # quantiles of the frames' levels: speech, and the noise between words
ABRUPT_DB = 20.0  # a clip whose last frame is nearer than this to the speech level was cut
ROLLOFF = 0.99  # of the power lies below the bandwidth
DARK = 1e-10  # mean square that stands for digital silence: -100 dBFS
MAX_SAMPLES = 2**22  # measured at once: 3 minutes, 16 MiB as float32

Measures = dict[str, Any]  # by name, as in schema.QUALITY; None: the clip is too short or too quiet to say


@dataclass(frozen=True)
class Frames:
    """The frames of several clips, one clip after the other."""

    samples: np.ndarray  # (F, 600) float32, full scale is 1; a clip's last frame is filled up with zeros
    starts: np.ndarray  # (C,) the first frame of each clip
    counts: np.ndarray  # (C,) frames of each clip, at least 1
    power: np.ndarray  # (F, 301) of each frequency; the mean square of a frame is the sum of its row
    level: np.ndarray  # (F,) dBFS
    is_speech: np.ndarray  # (F,) not silent

    def of(self, clip: int) -> slice:
        return slice(self.starts[clip], self.starts[clip] + self.counts[clip])


def measure(clips: Sequence[np.ndarray]) -> list[Measures]:
    """The measures of each clip, (N,) int16 samples at 24 kHz; float samples, full scale 1, may be not finite."""
    results: list[Measures] = [silent_measures(clip.size) for clip in clips]
    heard = [i for i, clip in enumerate(clips) if clip.any()]  # digital silence needs no arithmetic
    for i, measures in zip(heard, measure_heard([clips[i] for i in heard]), strict=True):
        results[i] = measures
    return results


def measure_heard(clips: list[np.ndarray]) -> list[Measures]:
    """The measures of clips that are not digital silence, in groups that fit into memory."""
    results: list[Measures] = []
    group: list[np.ndarray] = []
    for clip in clips:
        if group and sum(each.size for each in group) + clip.size > MAX_SAMPLES:
            results += measure_group(group)
            group = []
        group.append(clip)
    return results + (measure_group(group) if group else [])


def silent_measures(size: int) -> Measures:
    """The measures of digital silence; `size` in samples."""
    return {
        "not_finite": 0,
        "peak_dbfs": -100.0,
        "clipped_runs": 0,
        "rms_dbfs": -100.0,
        "lufs": None,
        "leading_silence_s": max(1, -(-size // FRAME)) * FRAME_S,
        "trailing_silence_s": 0.0,
        "max_inner_silence_s": 0.0,
        "speech_ratio": 0.0,
        "snr_db": None,
        "abrupt_end": False,
        "self_similarity": None,
        "bandwidth_hz": None,
        "f0_hz": None,
        "f0_spread_semitones": None,
    }


def measure_group(clips: list[np.ndarray]) -> list[Measures]:
    """The measures of clips that fit into memory together."""
    not_finite = [0 if each.dtype.kind == "i" else int((~np.isfinite(each)).sum()) for each in clips]
    clips = [as_int16(each) for each in clips]
    frames, speech_level = to_frames(clips)
    silences = measure_silences(frames)
    noise_level = quantile(frames, QUIET)
    mean_square = np.add.reduceat(np.einsum("ij,ij->i", frames.samples, frames.samples), frames.starts)
    mean_square /= np.maximum(1, [each.size for each in clips])
    is_abrupt = decibels(last_mean_squares(clips)) > speech_level - ABRUPT_DB
    bandwidth = measure_bandwidth(frames)
    f0, f0_spread = pitch.measure(clips, speech_level)
    peaks = [int(max(each.max(initial=0), -int(each.min(initial=0)))) for each in clips]
    has_speech = silences["speech_ratio"] > 0
    results = []
    for i, clip in enumerate(clips):
        spoken = frames.of(i)
        results.append(
            {
                "not_finite": not_finite[i],
                "peak_dbfs": float(decibels(np.square(peaks[i] / FULL_SCALE))),
                "clipped_runs": count_clipped_runs(clip) if peaks[i] >= FULL_SCALE else 0,
                "rms_dbfs": float(decibels(mean_square[i])),
                "lufs": loudness.integrated(frames.power[spoken]),
                **{name: float(values[i]) for name, values in silences.items()},
                "snr_db": float(speech_level[i] - noise_level[i]) if has_speech[i] else None,
                "abrupt_end": bool(is_abrupt[i] and has_speech[i]),
                "self_similarity": loops.similarity(frames.power[spoken], frames.is_speech[spoken]),
                "bandwidth_hz": float(bandwidth[i]) if has_speech[i] else None,
                "f0_hz": f0[i],
                "f0_spread_semitones": f0_spread[i],
            }
        )
    return results


def as_int16(clip: np.ndarray) -> np.ndarray:
    """Samples as they are stored; those that are not finite count as 0."""
    if clip.dtype == np.int16:
        return clip
    return np.rint(np.clip(np.nan_to_num(clip, nan=0.0), -1.0, 1.0) * FULL_SCALE).astype(np.int16)


def to_frames(clips: list[np.ndarray]) -> tuple[Frames, np.ndarray]:
    """The clips' frames, and the speech level of each clip, (C,) dBFS: that of its loud frames."""
    counts = np.array([max(1, -(-each.size // FRAME)) for each in clips])
    starts = np.concatenate([[0], np.cumsum(counts)[:-1]])
    samples = np.zeros((counts.sum(), FRAME), np.float32)
    flat = samples.reshape(-1)
    for start, clip in zip(starts * FRAME, clips, strict=True):
        flat[start : start + clip.size] = clip
    samples *= np.float32(1 / FULL_SCALE)
    power = power_spectrum(samples)
    level = decibels(power.sum(axis=1))
    frames = Frames(samples, starts, counts, power, level, np.zeros(0, bool))
    speech_level = quantile(frames, LOUD)
    threshold = np.maximum(speech_level - SILENCE_BELOW_SPEECH_DB, SILENCE_DBFS)
    return Frames(samples, starts, counts, power, level, level > np.repeat(threshold, counts)), speech_level


def power_spectrum(samples: np.ndarray) -> np.ndarray:
    """(F, N) frames -> (F, N // 2 + 1) float32 power per frequency, one-sided: a row adds up to the frame's mean square
    (Parseval)."""
    spectrum = np.fft.rfft(samples)
    power = np.square(spectrum.real) + np.square(spectrum.imag)
    power[:, 1:-1] *= 2
    return power * np.float32(1 / samples.shape[1] ** 2)


def decibels(mean_square: Any) -> Any:
    """10 log10, not below -100 dB."""
    return 10 * np.log10(np.maximum(mean_square, DARK))


def quantile(frames: Frames, share: float) -> np.ndarray:
    """This quantile of the levels of each clip's frames, (C,) dBFS."""
    clip_of = np.repeat(np.arange(len(frames.counts)), frames.counts)
    ordered = frames.level[np.lexsort((frames.level, clip_of))]
    return ordered[frames.starts + (share * (frames.counts - 1)).astype(int)]


def measure_silences(frames: Frames) -> dict[str, np.ndarray]:
    """Seconds of silence at the start, at the end and at the longest place between, and the share of speech; (C,) each.

    A clip without speech is one leading silence.
    """
    clip_of = np.repeat(np.arange(len(frames.counts)), frames.counts)
    speech = np.flatnonzero(frames.is_speech)
    num_speech = np.bincount(clip_of[speech], minlength=len(frames.counts))
    leading, trailing, inner = frames.counts.copy(), np.zeros_like(frames.counts), np.zeros_like(frames.counts)
    has = num_speech > 0
    last = np.cumsum(num_speech)[has] - 1
    first = last - num_speech[has] + 1
    leading[has] = speech[first] - frames.starts[has]
    trailing[has] = frames.starts[has] + frames.counts[has] - 1 - speech[last]
    gaps = np.diff(speech) - 1
    np.maximum.at(inner, clip_of[speech[1:]], np.where(clip_of[speech[1:]] == clip_of[speech[:-1]], gaps, 0))
    return {
        "leading_silence_s": leading * FRAME_S,
        "trailing_silence_s": trailing * FRAME_S,
        "max_inner_silence_s": inner * FRAME_S,
        "speech_ratio": num_speech / frames.counts,
    }


def last_mean_squares(clips: list[np.ndarray]) -> np.ndarray:
    """Mean square of each clip's last 25 ms, (C,), without the zeros that fill up its last frame."""
    ends = np.zeros((len(clips), FRAME), np.float32)
    for i, clip in enumerate(clips):
        ends[i, : min(FRAME, clip.size)] = clip[-FRAME:]
    return np.square(ends / FULL_SCALE).mean(axis=1)


def count_clipped_runs(clip: np.ndarray) -> int:
    """Places where at least three samples in a row are at full scale."""
    is_full = np.concatenate([[False], (clip >= FULL_SCALE) | (clip <= -FULL_SCALE), [False]])
    edges = np.flatnonzero(is_full[1:] != is_full[:-1])
    return int((edges[1::2] - edges[::2] >= CLIPPED_RUN).sum())


def measure_bandwidth(frames: Frames) -> np.ndarray:
    """The frequency below which 99 % of the power of each clip's speech lies, (C,) Hz."""
    spectrum = np.add.reduceat(frames.power * frames.is_speech[:, None], frames.starts)
    below = np.cumsum(spectrum, axis=1)
    return (below < ROLLOFF * below[:, -1:]).sum(axis=1) * (SAMPLE_RATE / FRAME)
