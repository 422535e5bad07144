"""Writes one shard: its data, its failures, and last the commit. Readers ignore parts without a commit.

    data/part-00042.parquet       the rows that became audio (absent if there are none)
    failures/part-00042.parquet   the rows that failed, with their reasons (absent if there are none)
    _commits/part-00042.json      counts, hashes and environments; created last, only if absent

Names follow from the plan and bytes from the rows, so running a shard twice is harmless, and a committed shard is not
written again. If two writers with different bytes overlap, the last one's part and commit remain, both of them.
"""

import hashlib
import io
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import NonNegativeInt, TypeAdapter

from pipeline import spec
from pipeline.errors import ConfigError, RowError
from pipeline.schema import failure_schema, output_schema
from pipeline.shards.audio import encode
from pipeline.shards.plan import first_problem, part_name
from pipeline.storage.store import Store

MAX_GROUP_ROWS, MAX_GROUP_BYTES = 1000, 2**30


@dataclass(frozen=True)
class WrittenRow:
    """A row that became audio: its joined samples (N,) int16, and the values of its output columns."""

    samples: np.ndarray
    peak: float  # largest |sample| before it was limited to 1
    seed: int
    sampling: dict[str, Any]
    num_segments: int
    num_semantic_tokens: int
    num_frames: int
    stop: str
    quality: dict[str, Any] | None = None  # schema.QUALITY
    attempts: tuple[dict[str, Any], ...] = ()  # schema.ATTEMPT each, the last one is this one


@dataclass(frozen=True)
class FailedRow:
    """A row that failed, and why."""

    seed: int | None
    stage: str
    error: RowError
    score: float | None = None  # of a rejected row
    attempts: tuple[dict[str, Any], ...] = ()
    is_rejected: bool = False  # by the run's quality gate: another attempt, with another seed, may pass


@dataclass(frozen=True)
class WrittenFile:
    """Size and hash of one written object."""

    bytes: int
    sha256: str


@dataclass(frozen=True)
class Commit:
    """The content of `_commits/part-*.json`."""

    shard: NonNegativeInt
    written: NonNegativeInt
    failed: NonNegativeInt
    num_samples: NonNegativeInt
    data: WrittenFile | None
    failures: WrittenFile | None
    rejected: NonNegativeInt = 0  # of the failed rows, by the quality gate: another attempt may pass
    kept: NonNegativeInt = 0  # of the written rows, the best of rejected attempts
    # Stage to the id of the environment that ran it (shards/environment.py). The same bytes from another environment
    # are the same commit; one that an older release made names none.
    environments: dict[str, str] = field(default_factory=dict, compare=False)


COMMIT_ADAPTER = TypeAdapter(Commit)


def write_shard(
    store: Store,
    shard: int,
    rows: pa.Table,
    outcomes: list[WrittenRow | FailedRow],
    audio_format: str,
    model: dict[str, str],
    generation: int = 0,
    environments: dict[str, str] | None = None,
    has_quality: bool = True,
) -> tuple[Commit, bool]:
    """Write all rows of one shard, each into data or failures, then commit.

    Returns the shard's commit, and True if it was committed already, by another run or by an actor that died after its
    commit.
    """
    if existing := find_commit(store, shard):
        return existing, True
    pairs = list(zip(rows.to_pylist(), outcomes, strict=True))
    written = [data_row(row, o, audio_format, model) for row, o in pairs if isinstance(o, WrittenRow)]
    failed = [failure_row(row, o, generation) for row, o in pairs if isinstance(o, FailedRow)]
    data = to_parquet(written, output_schema(rows.schema, has_quality))
    failures = to_parquet(failed, failure_schema(has_quality))
    num_samples = sum(row["num_samples"] for row in written)
    files = (written_file(data), written_file(failures))
    rejected = sum(isinstance(o, FailedRow) and o.is_rejected for o in outcomes)
    kept = sum((row["quality"] or {}).get("verdict") == "kept" for row in written)
    commit = Commit(shard, len(written), len(failed), num_samples, *files, rejected, kept, environments or {})
    if existing := find_commit(store, shard):  # encoding took seconds, and committed parts must not be overwritten
        return existing, True
    name = part_name(shard)
    for path, content in ((f"data/{name}.parquet", data), (f"failures/{name}.parquet", failures)):
        if content is None:
            store.remove(path)  # an earlier attempt with other outcomes may have left it, without a commit
        else:
            store.put(path, content)
    record = json.dumps(asdict(commit), indent=1).encode()
    if store.create(f"_commits/{name}.json", record):
        return commit, False
    if (existing := read_commit(store, shard)) == commit:
        return existing, True
    # Another writer committed different bytes while this one wrote its parts (on another kind of processor, or with a
    # voice that only one of them could fetch). The parts are now this writer's, so the commit must describe them.
    store.put(f"_commits/{name}.json", record)
    return commit, True


def find_commit(store: Store, shard: int) -> Commit | None:
    """A shard's commit; None if it has none."""
    try:
        return read_commit(store, shard)
    except FileNotFoundError:
        return None


def read_commit(store: Store, shard: int) -> Commit:
    """A shard's commit.

    Raises:
        FileNotFoundError: the shard is not committed.
        ConfigError: the commit can't be read, or belongs to another shard.
    """
    name = f"_commits/{part_name(shard)}.json"
    try:
        commit = COMMIT_ADAPTER.validate_json(store.get(name), strict=True)
        if commit.shard != shard:
            raise ValueError(f"it belongs to shard {commit.shard}")
    except ValueError as error:
        raise ConfigError(
            f"{store.path(name)}: damaged: {first_problem(error)}; delete it and run again to make its part again"
        ) from error
    return commit


def data_row(row: dict[str, Any], result: WrittenRow, audio_format: str, model: dict[str, str]) -> dict[str, Any]:
    """One row of `data/`: the manifest's columns, the sampling that was used, and the generated columns."""
    num_samples = result.samples.size
    generated = {
        "seed": result.seed,
        "audio": {"bytes": encode(result.samples, audio_format), "path": None},
        "sampling_rate": spec.SAMPLE_RATE,
        "num_samples": num_samples,
        "duration": num_samples / spec.SAMPLE_RATE,
        "num_segments": result.num_segments,
        "num_semantic_tokens": result.num_semantic_tokens,
        "num_coarse_tokens": result.num_frames * spec.NUM_COARSE_CODEBOOKS,
        "num_frames": result.num_frames,
        "stop": result.stop,
        "peak": result.peak,
        "ai_generated": True,
        "quality": result.quality,
        "attempts": result.attempts,
    }
    return row | result.sampling | generated | model


def failure_row(row: dict[str, Any], failed: FailedRow, generation: int) -> dict[str, Any]:
    """One row of `failures/`."""
    known = {name: row.get(name) for name in ("id", "text", "voice")}
    error = {"error_type": failed.error.kind, "error_message": str(failed.error)}
    tried = {"seed": failed.seed, "stage": failed.stage, "score": failed.score, "attempts": failed.attempts}
    return known | tried | error | {"generation": generation}


def to_parquet(rows: list[dict[str, Any]], schema: pa.Schema) -> bytes | None:
    """A part as Parquet bytes; None if there are no rows."""
    if not rows:
        return None
    buffer = io.BytesIO()
    # The page index lets viewers read single rows. Statistics of the audio column would copy three clips in memory.
    options: dict[str, Any] = {"compression": "zstd", "write_page_index": True}
    options["write_statistics"] = [column.name for column in schema if not pa.types.is_nested(column.type)]
    with pq.ParquetWriter(buffer, schema, **options) as writer:
        for group in row_groups(rows):
            writer.write_table(pa.Table.from_pylist(group, schema=schema))
    return buffer.getvalue()


def written_file(content: bytes | None) -> WrittenFile | None:
    """Size and hash of a part; None if there is no part."""
    return None if content is None else WrittenFile(len(content), hashlib.sha256(content).hexdigest())


def row_groups(rows: list[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    """Split rows into groups of at most 1000 rows and 1 GiB of audio (a larger row is a group of its own).

    Arrow's arrays of bytes are limited to 2 GiB.
    """
    group: list[dict[str, Any]] = []
    size = 0
    for row in rows:
        num_bytes = len(row["audio"]["bytes"]) if "audio" in row else 0
        if group and (len(group) == MAX_GROUP_ROWS or size + num_bytes > MAX_GROUP_BYTES):
            yield group
            group, size = [], 0
        group.append(row)
        size += num_bytes
    yield group
