"""One chapter's sound, sentence by sentence, from committed rows: as frames to measure, and as samples to encode."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from pipeline.audiobook import sound
from pipeline.audiobook.config import SoundSettings
from pipeline.audiobook.speak import Key, Place, join
from pipeline.quality import loudness
from pipeline.quality.sound import FRAME, power_spectrum
from pipeline.shards.audio import decode
from pipeline.shards.reader import query_part
from pipeline.shards.writer import read_commit
from pipeline.spec import SAMPLE_RATE
from pipeline.storage.store import Store

PAUSE_FOR_MISSING_S = 1.0
PEAK_MARGIN_DB = 1.0  # AAC's true peak exceeds that of its input by less


@dataclass(frozen=True)
class Line:
    """One sentence of a chapter."""

    key: Key
    text: str  # as the book has it
    pause_after_s: float
    place: Place | None  # None: it is missing

    @property
    def voice(self) -> str | None:
        return self.key[2]


@dataclass(frozen=True)
class ChapterJob:
    """What a task needs to measure or to encode one chapter."""

    store: Store
    number: int
    title: str
    lines: tuple[Line, ...]
    settings: SoundSettings
    gains_db: tuple[tuple[str | None, float], ...] = ()  # of each voice


def clips(job: ChapterJob) -> Iterator[tuple[Line, np.ndarray | None]]:
    """Each line with its trimmed samples (N,) float32, or None; one part of the output is in memory at a time."""
    margin = round(job.settings.margin_s * SAMPLE_RATE)
    opened: tuple[str, int] | None = None
    audio: list[dict[str, bytes]] = []
    for line in job.lines:
        if line.place is None:
            yield line, None
            continue
        if opened != (line.place.run, line.place.shard):
            opened = (line.place.run, line.place.shard)
            output = Store(join(job.store.url, line.place.run), job.store.storage_options)
            commit = read_commit(output, line.place.shard)
            audio = query_part(output, commit, lambda file: file.read(columns=["audio"])["audio"].to_pylist())
        samples = decode(audio[line.place.row]["bytes"]).astype(np.float32) / 32768
        yield line, sound.trim(samples, margin)


def voice_frames(job: ChapterJob) -> dict[str | None, np.ndarray]:
    """The weighted frames (F,) of each voice's speech in this chapter, for its loudness."""
    found: dict[str | None, list[np.ndarray]] = {}
    for line, samples in clips(job):
        if samples is not None:
            found.setdefault(line.voice, []).append(weighted_frames(samples))
    return {voice: np.concatenate(parts) for voice, parts in found.items()}


def chapter_frames(job: ChapterJob) -> np.ndarray:
    """The weighted frames (F,) of the whole chapter as it will sound."""
    left, parts = np.zeros(0, np.float32), []
    for _, samples in pieces(job):
        left = np.concatenate([left, samples])
        whole = len(left) // FRAME * FRAME
        parts.append(weighted_frames(left[:whole]))
        left = left[whole:]
    return np.concatenate(parts)


def pieces(job: ChapterJob) -> Iterator[tuple[Line | None, np.ndarray]]:
    """The chapter's samples in order: a line's speech with the line, silence with None."""
    gains = {voice: sound.to_gain(db) for voice, db in job.gains_db}
    ceiling = sound.to_gain(job.settings.true_peak_db - PEAK_MARGIN_DB)
    yield None, sound.silence(job.settings.head_s)
    for line, samples in clips(job):
        if samples is not None:
            yield line, sound.limit(sound.fade(samples * np.float32(gains[line.voice])), ceiling)
        elif job.settings.missing == "tone":
            yield line, sound.tone()
        else:
            yield line, sound.silence(PAUSE_FOR_MISSING_S)
        yield None, sound.silence(line.pause_after_s)


def weighted_frames(samples: np.ndarray) -> np.ndarray:
    """(N,) -> (N // 600,) float32"""
    count = len(samples) // FRAME
    return loudness.weighted(power_spectrum(samples[: count * FRAME].reshape(count, FRAME)))
