"""The rows of one shard of an export, with their sound as the export stores it."""

import hashlib
import io
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
import soundfile

from pipeline.errors import ConfigError
from pipeline.export.ogg import with_fixed_serial
from pipeline.export.plan import ExportShard
from pipeline.export.select import split_of_rows
from pipeline.export.settings import ExportSettings
from pipeline.shards.reader import decode_clip, read_part
from pipeline.shards.writer import read_commit
from pipeline.storage.store import Store

BATCH_ROWS = 64
SAFE_KEY = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,79}")
ESCAPED_KEY = re.compile(r".*--[0-9a-f]{16}")
MAGIC = {b"fLaC": "flac", b"RIFF": "wav", b"OggS": "opus"}
ENCODERS = {
    "flac": ("FLAC", "PCM_16"),
    "wav": ("WAV", "PCM_16"),
    "mp3": ("MP3", "MPEG_LAYER_III"),
    "opus": ("OGG", "OPUS"),
}


@dataclass(frozen=True)
class ExportClip:
    """One row of an export."""

    key: str  # safe in file names, without dots; a different one for each id
    audio: bytes  # of a sound file
    codec: str
    row: dict[str, Any]  # all columns but the audio; sampling_rate and num_samples are those of this export

    @property
    def file_name(self) -> str:
        return f"{self.key}.{self.codec}"


def safe_key(row_id: str) -> str:
    """An id as part of a file name: itself if it has only letters, digits, - and _; else what is safe, and a hash."""
    if SAFE_KEY.fullmatch(row_id) and not ESCAPED_KEY.fullmatch(row_id):
        return row_id
    readable = re.sub(r"[^A-Za-z0-9_-]+", "_", row_id).strip("_-")[:40]
    return f"{readable or 'row'}--{hashlib.blake2b(row_id.encode(), digest_size=8).hexdigest()}"


def clips_of(
    source: Store, shard: ExportShard, settings: ExportSettings, codec: str | None, columns: list[str]
) -> Iterator[ExportClip]:
    """The clips of one shard in order, with one part of the output in memory at a time.

    Args:
        codec: of the export; None keeps each clip as it is.
        columns: of the export, in order; a part that an older release wrote may lack some, which are null then.

    Raises:
        ConfigError: a part is missing, is not what was committed, or no longer has the rows that were planned.
    """
    split = settings.split_names.index(shard.split)
    table, chosen, part = None, np.zeros(0, np.int64), -1
    for piece in shard.pieces:
        if piece.part != part or table is None:
            part = piece.part
            table = read_part(source, read_commit(source, part))
            chosen = split_of_rows(table, settings)
        positions = piece.start + np.flatnonzero(chosen[piece.start : piece.stop] == split)
        if len(positions) != piece.rows:
            raise ConfigError(
                f"part {part} of {source.path('data')}: its rows have changed since the export was planned"
            )
        for start in range(0, len(positions), BATCH_ROWS):
            batch = table.take(pa.array(positions[start : start + BATCH_ROWS])).to_pylist()
            for row in batch:
                clip = export_clip(source, part, row, settings.sample_rate, codec)
                yield replace(clip, row={name: clip.row.get(name) for name in columns if name != "audio"})


def export_clip(source: Store, part: int, row: dict[str, Any], rate: int | None, codec: str | None) -> ExportClip:
    """One row with its sound in this codec and rate; a clip that needs no change keeps its bytes."""
    audio = row.pop("audio")["bytes"]
    found = MAGIC.get(audio[:4], "mp3")
    if codec in (None, found) and rate in (None, row["sampling_rate"]):
        return ExportClip(safe_key(row["id"]), audio, found, row)
    samples, old_rate = decode_clip(source, part, audio)
    if rate is not None:
        samples = resample(samples, old_rate, rate)
    new_rate = rate or old_rate
    row |= {"sampling_rate": new_rate, "num_samples": len(samples), "duration": len(samples) / new_rate}
    return ExportClip(safe_key(row["id"]), encode(samples, new_rate, codec or found), codec or found, row)


def resample(samples: np.ndarray, old_rate: int, new_rate: int) -> np.ndarray:
    """(N,) int16 -> (N * new_rate / old_rate,) int16, by soxr at high quality."""
    if old_rate == new_rate:
        return samples
    try:
        import soxr
    except ImportError as error:
        raise ConfigError("--sample-rate needs soxr: pip install 'barkery[export]'") from error
    resampled: np.ndarray = soxr.resample(samples, old_rate, new_rate, quality="HQ")
    return resampled


def encode(samples: np.ndarray, rate: int, codec: str) -> bytes:
    """(N,) int16 samples as a sound file; the same samples give the same bytes."""
    file_format, subtype = ENCODERS[codec]
    buffer = io.BytesIO()
    soundfile.write(buffer, samples, rate, format=file_format, subtype=subtype)
    return with_fixed_serial(buffer.getvalue()) if codec == "opus" else buffer.getvalue()
