"""Trimming, fades and the limiter."""

import numpy as np
import pytest

from pipeline.audiobook import sound
from pipeline.audiobook.m4b import blocks
from pipeline.audiobook.subtitles import clock
from pipeline.spec import SAMPLE_RATE

TONE = (0.5 * np.sin(2 * np.pi * 440 * np.arange(SAMPLE_RATE) / SAMPLE_RATE)).astype(np.float32)


def test_trim_keeps_the_speech_and_a_margin() -> None:
    padded = np.concatenate([np.full(9_000, 1e-4), TONE, np.zeros(5_000)]).astype(np.float32)
    trimmed = sound.trim(padded, 2_400)
    assert len(TONE) + 4_800 <= len(trimmed) <= len(TONE) + 4_800 + 2 * sound.FRAME
    assert np.array_equal(sound.trim(np.zeros(3_000, np.float32), 10), np.zeros(3_000))
    assert len(sound.trim(TONE[:100], 10)) == 100


@pytest.mark.parametrize("size", [0, 1, 2, 50, 24_000])
def test_fades_leave_no_step(size: int) -> None:
    faded = sound.fade(np.ones(size, np.float32))
    joined = np.concatenate([[0.0], faded, [0.0]])
    assert np.abs(np.diff(joined)).max() < 0.02 or size < 240
    assert len(faded) == size and (size < 240 or faded[size // 2] == 1)


def test_limiter_holds_the_true_peak_and_leaves_the_rest() -> None:
    at = np.arange(SAMPLE_RATE)
    loud = np.sin(2 * np.pi * 6_000 * at / SAMPLE_RATE + np.pi / 4).astype(np.float32)  # its peaks are between samples
    assert sound.envelope(loud).max() > 0.98 > np.abs(loud).max() / 0.73
    samples = np.concatenate([TONE, loud * 2, TONE])
    limited = sound.limit(samples, 0.8)
    assert sound.envelope(limited).max() < 0.8 * 1.01
    assert np.array_equal(limited[:20_000], samples[:20_000]) and np.array_equal(limited[-20_000:], samples[-20_000:])
    assert np.abs(limited[30_000:40_000]).max() > 0.5  # turned down, not out
    assert sound.limit(TONE, 0.9) is TONE


def test_blocks_have_the_same_samples() -> None:
    pieces = [np.arange(n, dtype=np.float32) for n in (5, 0, 3_000, 1, 1_024)]
    found = list(blocks(pieces, 1_024))
    assert np.array_equal(np.concatenate(found), np.concatenate(pieces))
    assert {len(block) for block in found[:-1]} == {1_024}


def test_clock() -> None:
    assert clock(3723.4567, ",") == "01:02:03,457" and clock(59.9996, ".") == "00:01:00.000"
