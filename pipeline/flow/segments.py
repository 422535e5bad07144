"""Rows to segments, segments to the inputs of a stage, and segments back to rows. No Ray here."""

from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from pipeline import spec
from pipeline.bark.long_text import join, segment_seed
from pipeline.bark.stage import Utterance
from pipeline.bark.text import SegmentLimits, TextEncoder, spoken_chars
from pipeline.bark.voice import load_voice
from pipeline.config import RunConfig
from pipeline.engine.random import make_key
from pipeline.errors import ConfigError, RowError
from pipeline.quality.attempts import Attempt, attempt
from pipeline.quality.rows import join_measures
from pipeline.quality.tokens import TokenGate
from pipeline.sampling import MAX_SEED, Sampling
from pipeline.schema import SAMPLING_COLUMNS
from pipeline.shards.audio import Clip
from pipeline.shards.writer import FailedRow, WrittenRow

MAX_ROW_SAMPLES = 12 * 3600 * spec.SAMPLE_RATE  # a WAV of them stays below the 2 GiB of one value in Arrow
Segment = dict[str, Any]  # one schema.SEGMENT; with its "text" until the semantic stage has read that

sampling_of = lru_cache(1024)(Sampling)  # most rows share theirs, and checking its values is the slowest step here


def row_seed(row: Mapping[str, Any], config: RunConfig) -> int:
    """The row's own seed, else one from the run's seed and the row's id: the same in any order, on any cluster."""
    seed = row.get("seed")
    if seed is None:
        low, high = make_key("row", config.seed, row["id"])
        return (high << 32 | low) & MAX_SEED
    if seed < 0:
        raise RowError("bad_setting", f"seed must not be negative, is {seed}")
    return int(seed)


def row_sampling(row: Mapping[str, Any], config: RunConfig) -> Sampling:
    """The run's sampling; the row's own columns override it."""
    own = {name: row[name] for name in SAMPLING_COLUMNS if row.get(name) is not None}
    try:
        return sampling_of(**(config.sampling.as_dict() | own))
    except ConfigError as error:
        raise RowError("bad_setting", str(error)) from error


def split_row(index: int, row: Mapping[str, Any], config: RunConfig, encoder: TextEncoder) -> list[Segment]:
    """The segments of one row, one Bark pass each; a row that can't be used is one segment with its error."""
    base: Segment = {"row": index, "voice": row.get("voice"), "language": row.get("language")}
    try:
        base["seed"] = row_seed(row, config)
        base["sampling"] = row_sampling(row, config).as_dict()
        limits = SegmentLimits(config.segments.max_tokens, config.segments.max_chars)
        texts = encoder.split(row.get("text") or "", limits, row.get("language"))
    except RowError as error:
        return [fail(base, "text", error)]
    return [
        base | {"seed": segment_seed(base["seed"], i), "text": text, "num_chars": spoken_chars(text)}
        for i, text in enumerate(texts)
    ]


def utterance_of(
    segment: Segment,
    folder: Path | None = None,
    text_ids: np.ndarray | None = None,
    gate: TokenGate | None = None,
) -> Utterance:
    """A segment as a stage takes it; `folder` is the checkpoint's, which may have voices of its own.

    Raises:
        RowError: its voice can't be used.
    """
    voice = load_voice(segment["voice"], folder) if segment["voice"] else None
    return Utterance(segment["seed"], sampling_of(**segment["sampling"]), voice, text_ids, gate)


def fail(segment: Segment, stage: str, error: RowError) -> Segment:
    """The segment with its error; later stages pass it on untouched."""
    return segment | {"error_stage": stage, "error_kind": error.kind, "error_message": str(error), "codes": None}


def pack(codes: np.ndarray) -> bytes:
    """(Q, F) or (F,) codes -> int16 bytes."""
    return codes.astype("<i2").tobytes()


def unpack(segment: Segment, num_codebooks: int) -> np.ndarray:
    """The segment's codes, int64: (F,) semantic tokens for one codebook, else (Q, F)."""
    flat = np.frombuffer(segment["codes"], dtype="<i2").astype(np.int64)
    return flat if num_codebooks == 1 else flat.reshape(num_codebooks, -1)


def merge_segments(
    segments: list[tuple[Segment, Any]], pause_s: float, num_codebooks: int, stage: str = "decode"
) -> WrittenRow | FailedRow:
    """One row from all its segments, with their measures, and their Clips. One failed segment fails the row.

    Args:
        num_codebooks: of the segments' codes.
        stage: that has measured the sound.
    """
    first = segments[0][0]
    for segment, _ in segments:
        if segment.get("error_kind"):
            error = RowError(segment["error_kind"], segment["error_message"])
            return FailedRow(own_seed(first), segment["error_stage"], error, attempts=draws_of(segments))
    clips: list[Clip] = [clip for _, clip in segments]
    pauses = (len(clips) - 1) * round(pause_s * spec.SAMPLE_RATE)
    if (num_samples := pauses + sum(clip.samples.size for clip in clips)) > MAX_ROW_SAMPLES:
        message = f"{num_samples / spec.SAMPLE_RATE / 3600:.1f} hours in one row, at most 12; split the text into rows"
        return FailedRow(own_seed(first), "decode", RowError("too_long", message))
    stops = {segment["stop"] for segment, _ in segments}
    frames = [unpack(segment, num_codebooks).shape[1] for segment, _ in segments]
    return WrittenRow(
        samples=join([clip.samples for clip in clips], pause_s),
        peak=max(clip.peak for clip in clips),
        seed=own_seed(first),
        sampling=first["sampling"],
        num_segments=len(segments),
        num_semantic_tokens=sum(segment["num_semantic"] for segment, _ in segments),
        num_frames=sum(frames),
        stop="length" if "length" in stops else segments[-1][0]["stop"],
        quality=join_measures([s for s, _ in segments]) if "speech_ratio" in first else None,
        attempts=(*draws_of(segments), attempt(own_seed(first), stage)),
    )


def own_seed(segment: Segment) -> Any:
    """A segment's seed before the draws of its tokens, one of which may have given it its own; None if the row's seed
    can't be used. The first segment's is the row's."""
    draws = segment.get("draws")
    return draws[0]["seed"] if draws else segment.get("seed")


def draws_of(segments: list[tuple[Segment, Any]]) -> tuple[Attempt, ...]:
    """The draws of all segments of a row, numbered by their segments."""
    return tuple(draw | {"segment": i} for i, (each, _) in enumerate(segments) for draw in each.get("draws") or ())
