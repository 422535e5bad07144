"""The measures of a row from those of its segments: the worst of them, or the whole."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from pipeline.quality.sound import Measures
from pipeline.spec import SAMPLE_RATE

Values = list[Any]  # of the segments that have one
Weights = list[float]  # seconds of each


def mean(values: Values, seconds: Weights) -> float:
    return sum(value * s for value, s in zip(values, seconds, strict=True)) / sum(seconds)


def mean_level(values: Values, seconds: Weights) -> float:
    """The level of all segments together, by their power."""
    return 10 * math.log10(mean([10 ** (value / 10) for value in values], seconds))


def largest(values: Values, seconds: Weights) -> Any:
    return max(values)


def smallest(values: Values, seconds: Weights) -> Any:
    return min(values)


def total(values: Values, seconds: Weights) -> Any:
    return sum(values)


JOINED: dict[str, Callable[[Values, Weights], Any]] = {
    "not_finite": total,
    "peak_dbfs": largest,
    "clipped_runs": total,
    "rms_dbfs": mean_level,
    "lufs": mean_level,
    "leading_silence_s": largest,
    "trailing_silence_s": largest,
    "max_inner_silence_s": largest,
    "speech_ratio": mean,
    "snr_db": smallest,
    "abrupt_end": largest,
    "self_similarity": largest,
    "bandwidth_hz": smallest,
    "f0_hz": mean,
    "f0_spread_semitones": largest,
    "token_repeats": largest,
    "longest_token_run": largest,
    "vad_speech_ratio": mean,
    "dnsmos_sig": smallest,
    "dnsmos_bak": smallest,
    "dnsmos_ovr": smallest,
}
ERROR_RATES = (
    ("wer", "word_errors", "num_words"),
    ("cer", "char_errors", "num_said_chars"),
    ("per", "phoneme_errors", "num_phonemes"),
)


def join_measures(segments: Sequence[Measures]) -> Measures:
    """One row's measures.

    Args:
        segments: the sound's measures of each segment, and `num_samples`, `num_chars`, `num_semantic`.
    """
    joined: Measures = {}
    for name, join in JOINED.items():
        known = [
            (each[name], max(1, each["num_samples"]) / SAMPLE_RATE) for each in segments if each.get(name) is not None
        ]
        joined[name] = join(*map(list, zip(*known, strict=True))) if known else None
    chars = sum(each["num_chars"] for each in segments)
    spoken_s = sum(spoken_seconds(each) for each in segments)
    tokens = sum(each["num_semantic"] for each in segments)
    joined["chars_per_second"] = chars / spoken_s if spoken_s > 0 else None
    joined["tokens_per_char"] = tokens / chars if chars else None
    return joined | join_scores(segments)


def join_scores(segments: Sequence[Measures]) -> Measures:
    """What the judges say of the whole row; empty without judges. Errors are counted over all segments."""
    joined: Measures = {}
    if "asr_text" in segments[0]:
        joined["asr_text"] = " ".join(each["asr_text"] for each in segments)
        for rate, errors, size in ERROR_RATES:
            counts = [(each[errors], each[size]) for each in segments if each[size] is not None]
            num = sum(size for _, size in counts)
            joined[rate] = sum(wrong for wrong, _ in counts) / num if num else None
    if "embeddings" in segments[0]:
        from pipeline.quality.judges.speaker import similarity

        windows = np.concatenate([each["embeddings"] for each in segments])
        joined["speaker_similarity"] = similarity(windows, segments[0]["reference"])
    return joined


def spoken_seconds(segment: Measures) -> float:
    """From the first sound to the last."""
    silent_s: float = segment["leading_silence_s"] + segment["trailing_silence_s"]
    return max(0.0, segment["num_samples"] / SAMPLE_RATE - silent_s)
