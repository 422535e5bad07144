"""Measures of clips whose answers are known: tones, noise and silence, put together."""

from typing import Any

import numpy as np
import pyloudnorm
import pytest

from pipeline.quality.sound import measure
from pipeline.schema import QUALITY
from pipeline.spec import SAMPLE_RATE

rng = np.random.default_rng(0)


def voice(seconds: float, f0_hz: float = 120.0, level: float = 0.1) -> np.ndarray:
    """A hum with twenty harmonics whose strengths wander like formants, (N,) float."""
    t = np.arange(round(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    wander = [1 + np.sin(2 * np.pi * rng.uniform(1, 4) * t + rng.uniform(0, 6)) for _ in range(20)]
    hum = sum(w * np.sin(2 * np.pi * f0_hz * (k + 1) * t) / (k + 1) for k, w in enumerate(wander))
    return level * hum / np.abs(hum).max()


def silence(seconds: float) -> np.ndarray:
    return np.zeros(round(seconds * SAMPLE_RATE))


def to_int16(*parts: np.ndarray) -> np.ndarray:
    return np.rint(np.clip(np.concatenate(parts), -1, 1) * 32767).astype(np.int16)


def measured(*parts: np.ndarray) -> dict[str, Any]:
    (found,) = measure([to_int16(*parts)])
    return found


def test_every_measure_is_a_field_of_the_column() -> None:
    names = [field.name for field in QUALITY]
    assert [name for name in names if name in measured(voice(1))] == list(measured(voice(1)))


def test_silences_are_found_where_they_are() -> None:
    found = measured(silence(0.5), voice(1), silence(1.25), voice(2), silence(0.25), voice(0.5), silence(0.75))
    assert found["leading_silence_s"] == pytest.approx(0.5, abs=0.026)
    assert found["max_inner_silence_s"] == pytest.approx(1.25, abs=0.051)
    assert found["trailing_silence_s"] == pytest.approx(0.75, abs=0.026)
    assert found["speech_ratio"] == pytest.approx(3.5 / 6.25, abs=0.02)
    assert not found["abrupt_end"] and measured(voice(1))["abrupt_end"]


def test_levels() -> None:
    tone = 0.5 * np.sin(2 * np.pi * 1000 * np.arange(2 * SAMPLE_RATE) / SAMPLE_RATE)
    found = measured(tone)
    assert found["peak_dbfs"] == pytest.approx(-6.02, abs=0.01)
    assert found["rms_dbfs"] == pytest.approx(-9.03, abs=0.01)
    assert found["lufs"] == pytest.approx(-9.03, abs=0.1)  # the K-weighting is 0.691 dB at 1 kHz, by definition
    assert found["clipped_runs"] == 0


@pytest.mark.parametrize("level", [0.5, 0.02])
@pytest.mark.parametrize("gap_s", [0.0, 1.3])
def test_loudness_equals_pyloudnorms(level: float, gap_s: float) -> None:
    noise = level * rng.normal(0, 0.2, 3 * SAMPLE_RATE)
    parts = (voice(2, 110, level), silence(gap_s), noise, voice(1, 210, level / 3))
    expected = pyloudnorm.Meter(SAMPLE_RATE).integrated_loudness(to_int16(*parts) / 32767)
    assert measured(*parts)["lufs"] == pytest.approx(expected, abs=0.1)


def test_clipped_runs_are_counted() -> None:
    loud = voice(1, level=4.0)
    clip = to_int16(loud)
    full = np.abs(clip.astype(int)) == 32767
    runs = [len(run) for run in "".join("x" if f else " " for f in full).split()]
    assert measured(loud)["clipped_runs"] == sum(run >= 3 for run in runs) > 50


@pytest.mark.parametrize("f0_hz", [75, 110, 180, 230, 330])
def test_pitch(f0_hz: float) -> None:
    found = measured(voice(1.5, f0_hz))
    assert found["f0_hz"] == pytest.approx(f0_hz, rel=0.02) and found["f0_spread_semitones"] < 1


def test_another_speaker_moves_the_pitch() -> None:
    assert measured(voice(1, 100), voice(1, 200))["f0_spread_semitones"] == pytest.approx(6, abs=0.5)


def test_noise_and_bandwidth() -> None:
    hiss = rng.normal(0, 0.1, 2 * SAMPLE_RATE)
    found = measured(hiss)
    assert found["snr_db"] < 3 and found["f0_hz"] is None
    assert found["bandwidth_hz"] == pytest.approx(0.99 * SAMPLE_RATE / 2, abs=200)
    quiet = voice(1) + 0.001 * rng.normal(0, 1, SAMPLE_RATE)
    assert 20 < measured(quiet, 0.001 * rng.normal(0, 1, SAMPLE_RATE))["snr_db"] < 60


def test_a_loop_is_like_itself() -> None:
    piece = voice(0.83)
    again = measured(voice(1.5), piece, piece, voice(0.7))
    assert again["self_similarity"] > 0.95 > 0.9 > measured(voice(4))["self_similarity"]
    assert measured(voice(0.5))["self_similarity"] is None


def test_silent_empty_and_broken_clips() -> None:
    silent, empty, broken = measure(
        [to_int16(silence(2)), np.zeros(0, np.int16), np.array([np.nan, np.inf, 0.5] * 4000, np.float32)]
    )
    assert (silent["speech_ratio"], silent["leading_silence_s"], silent["peak_dbfs"]) == (0, 2, -100)
    assert silent["lufs"] is silent["snr_db"] is silent["self_similarity"] is silent["f0_hz"] is None
    assert not silent["abrupt_end"] and empty["speech_ratio"] == 0 and empty["lufs"] is None
    assert broken["not_finite"] == 8000 and silent["not_finite"] == 0


def test_clips_are_measured_alike_alone_and_together() -> None:
    parts = [(voice(0.2),), (silence(0.1), voice(3, 90)), (silence(1),), (voice(0.037),), (voice(12), silence(2))]
    clips = [to_int16(*part) for part in parts]
    together = measure(clips)
    assert together == [measure([clip])[0] for clip in clips]
    assert together[::-1] == measure(clips[::-1])


def test_digital_silence_is_measured_like_near_silence() -> None:
    """It has a shorter way; one sample of the smallest step takes the long one."""
    almost = to_int16(silence(2))
    almost[24_000] = 1
    found, other = measure([to_int16(silence(2)), almost])
    assert found.keys() == other.keys()
    assert {k: v for k, v in found.items() if "dbfs" not in k} == {k: v for k, v in other.items() if "dbfs" not in k}
    assert list(found) == list(measured(voice(1)))
