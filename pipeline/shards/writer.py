"""One shard to its place: data, failures, and last the commit that makes them count.

    data/part-00042.parquet       the rows that were spoken (absent if none was)
    failures/part-00042.parquet   the rows that were not, with their reasons (absent if there are none)
    _commits/part-00042.json      counts and hashes; created last, only if absent

Names follow from the plan and bytes from the rows, so running a shard twice is harmless; what stands committed is
not written again. Two writers at the same moment, with different bytes: the last one's part and commit stand, both.
"""

import hashlib
import io
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import NonNegativeInt, TypeAdapter

from pipeline import spec
from pipeline.errors import ConfigError, RowError
from pipeline.schema import FAILURE, output_schema
from pipeline.shards.audio import encode
from pipeline.shards.plan import part_name, problem
from pipeline.storage.store import Store

MAX_GROUP_ROWS, MAX_GROUP_BYTES = 1000, 2**30


@dataclass(frozen=True)
class SpokenRow:
    """A row that became speech: its joined samples (N,) int16 and what the output tells about them."""

    samples: np.ndarray
    peak: float  # largest |sample| before it was limited to 1
    seed: int
    sampling: dict[str, Any]
    num_segments: int
    num_semantic_tokens: int
    num_frames: int
    stop: str


@dataclass(frozen=True)
class FailedRow:
    """A row that did not, and why."""

    seed: int | None
    stage: str
    error: RowError


@dataclass(frozen=True)
class WrittenFile:
    """One written object, as its commit records it."""

    bytes: int
    sha256: str


@dataclass(frozen=True)
class Commit:
    """What `_commits/part-*.json` holds."""

    shard: NonNegativeInt
    written: NonNegativeInt
    failed: NonNegativeInt
    num_samples: NonNegativeInt
    data: WrittenFile | None
    failures: WrittenFile | None


COMMIT_ADAPTER = TypeAdapter(Commit)


def write_shard(
    store: Store,
    shard: int,
    rows: pa.Table,
    outcomes: list[SpokenRow | FailedRow],
    audio_format: str,
    model: dict[str, str],
    generation: int = 0,
) -> tuple[Commit, bool]:
    """Write all rows of one shard, each into data or failures, then commit; returns what stands committed, and whether
    it stood before: then another run, or an actor that died after its commit, was first."""
    if existing := committed(store, shard):
        return existing, True
    given = rows.to_pylist()
    written = [
        data_row(row, outcome, audio_format, model)
        for row, outcome in zip(given, outcomes, strict=True)
        if isinstance(outcome, SpokenRow)
    ]
    failed = [
        failure_row(row, o, generation) for row, o in zip(given, outcomes, strict=True) if isinstance(o, FailedRow)
    ]
    data, failures = encoded(written, output_schema(rows.schema)), encoded(failed, FAILURE)
    num_samples = sum(row["num_samples"] for row in written)
    commit = Commit(shard, len(written), len(failed), num_samples, described(data), described(failures))
    if existing := committed(store, shard):  # encoding takes seconds: what stands is not to be touched
        return existing, True
    name = part_name(shard)
    for path, content in ((f"data/{name}.parquet", data), (f"failures/{name}.parquet", failures)):
        if content is None:
            store.remove(path)  # of an attempt that ended otherwise, and without a commit
        else:
            store.put(path, content)
    record = json.dumps(asdict(commit), indent=1).encode()
    if store.create(f"_commits/{name}.json", record):
        return commit, False
    if (existing := read_commit(store, shard)) == commit:
        return existing, True
    # Somebody committed while we were putting, and made it otherwise (another kind of processor, a voice that only one
    # of us could fetch). What lies there now is ours, whole, so the commit must say that.
    store.put(f"_commits/{name}.json", record)
    return commit, True


def committed(store: Store, shard: int) -> Commit | None:
    try:
        return read_commit(store, shard)
    except FileNotFoundError:
        return None


def read_commit(store: Store, shard: int) -> Commit:
    """Raises FileNotFoundError; ConfigError: it can't be read, or is not this shard's."""
    name = f"_commits/{part_name(shard)}.json"
    try:
        commit = COMMIT_ADAPTER.validate_json(store.get(name), strict=True)
        if commit.shard != shard:
            raise ValueError(f"it is of shard {commit.shard}")
    except ValueError as error:
        raise ConfigError(
            f"{store.path(name)}: damaged: {problem(error)}; delete it and run again to make its part anew"
        ) from error
    return commit


def data_row(row: dict[str, Any], spoken: SpokenRow, audio_format: str, model: dict[str, str]) -> dict[str, Any]:
    num_samples = spoken.samples.size
    made = {
        "seed": spoken.seed,
        "audio": {"bytes": encode(spoken.samples, audio_format), "path": None},
        "sampling_rate": spec.SAMPLE_RATE,
        "num_samples": num_samples,
        "duration": num_samples / spec.SAMPLE_RATE,
        "num_segments": spoken.num_segments,
        "num_semantic_tokens": spoken.num_semantic_tokens,
        "num_coarse_tokens": spoken.num_frames * spec.NUM_COARSE_CODEBOOKS,
        "num_frames": spoken.num_frames,
        "stop": spoken.stop,
        "peak": spoken.peak,
        "ai_generated": True,
    }
    return row | spoken.sampling | made | model


def failure_row(row: dict[str, Any], failed: FailedRow, generation: int) -> dict[str, Any]:
    known = {name: row.get(name) for name in ("id", "text", "voice")}
    error = {"error_type": failed.error.kind, "error_message": str(failed.error)}
    return known | {"seed": failed.seed, "stage": failed.stage} | error | {"generation": generation}


def encoded(rows: list[dict[str, Any]], schema: pa.Schema) -> bytes | None:
    """A part in memory; None where there are no rows."""
    if not rows:
        return None
    buffer = io.BytesIO()
    # The page index lets viewers read single rows. Least and largest clip would be three copies in memory.
    how: dict[str, Any] = {"compression": "zstd", "write_page_index": True}
    how["write_statistics"] = [field.name for field in schema if not pa.types.is_nested(field.type)]
    with pq.ParquetWriter(buffer, schema, **how) as writer:
        for group in row_groups(rows):
            writer.write_table(pa.Table.from_pylist(group, schema=schema))
    return buffer.getvalue()


def described(content: bytes | None) -> WrittenFile | None:
    return None if content is None else WrittenFile(len(content), hashlib.sha256(content).hexdigest())


def row_groups(rows: list[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    """At most 1000 rows and, but for a single row, 1 GiB of audio: Arrow's arrays of bytes end at 2 GiB."""
    group: list[dict[str, Any]] = []
    size = 0
    for row in rows:
        more = len(row["audio"]["bytes"]) if "audio" in row else 0
        if group and (len(group) == MAX_GROUP_ROWS or size + more > MAX_GROUP_BYTES):
            yield group
            group, size = [], 0
        group.append(row)
        size += more
    yield group
