"""The plan of an export: which rows go into which of its shards. It is written once, before the first shard.

    .barkery/shards-HASH.parquet    the pieces of all shards
    .barkery/plan.json              settings, source, counts, schema; created last, only if absent

The folder's name starts with a dot, so that trainers do not take its files for data. A resumed export reads its shards
from here, so an output that has grown since changes nothing in an export that was begun.
"""

import base64
import hashlib
import io
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import TypeAdapter, ValidationError

from pipeline.errors import ConfigError, redact
from pipeline.export.select import Piece
from pipeline.shards.plan import first_problem
from pipeline.shards.writer import Commit
from pipeline.spec import SAMPLE_RATE
from pipeline.storage.store import Store

FOLDER = ".barkery"
PLAN_FILE = f"{FOLDER}/plan.json"
FORMAT_VERSION = 1
SHARD_BYTES = 256 * 10**6  # of audio, about; a shard of a large export is larger, so that there are at most MAX_SHARDS
SHARD_SAMPLES = 4 * 3600 * SAMPLE_RATE  # at most so much audio in a shard: a small codec takes longest to encode
MAX_SHARDS = 4000  # of a split: folders on the Hugging Face hub may have 10,000 files
BYTES_PER_S = {"flac": 29_500, "wav": 48_000, "mp3": 10_400, "opus": 4_500}  # of speech at 24 kHz, to estimate sizes
COLUMNS = pa.schema([("split", pa.string()), ("shard", pa.int64())] + [(k, pa.int64()) for k in Piece.__annotations__])


@dataclass(frozen=True)
class ExportShard:
    """One unit of work: the pieces of one file, or of one group of files."""

    split: str
    number: int
    count: int  # shards of the split
    pieces: list[Piece]
    first_row: int  # of the split: rows in the shards before

    @property
    def name(self) -> str:
        return f"{self.split}-{self.number:06d}"

    @property
    def rows(self) -> int:
        return sum(piece.rows for piece in self.pieces)


@dataclass(frozen=True)
class Split:
    """The size of one split."""

    rows: int
    samples: int  # at the rate of the output
    shards: int


@dataclass(frozen=True)
class ExportPlan:
    """The content of `.barkery/plan.json`."""

    format: str
    settings: dict[str, Any]
    source: dict[str, Any]  # of the output: url, fingerprint, parts, rows, model ...
    splits: dict[str, Split]
    statistics: dict[str, Any]  # languages and voices with their rows
    schema: str  # Arrow's, in base64: the columns of all parts together
    shards_file: str
    format_version: int = field(default=FORMAT_VERSION)

    @cached_property
    def arrow_schema(self) -> pa.Schema:
        return pa.ipc.read_schema(pa.py_buffer(base64.b64decode(self.schema)))

    @property
    def sample_rate(self) -> int:
        """Of the sounds, in Hz."""
        return int(self.settings["sample_rate"] or SAMPLE_RATE)

    @property
    def is_split(self) -> bool:
        """Whether the user asked for splits: then each has a folder, where a format has several files."""
        return len(self.splits) > 1

    def folder_of(self, split: str) -> str:
        """The folder of a split's files, with a slash, in formats that have one: empty for an export of one split."""
        return f"{split}/" if self.is_split else ""

    @property
    def rows(self) -> int:
        return sum(split.rows for split in self.splits.values())


ADAPTER = TypeAdapter(ExportPlan)


def open_export(dest: Store) -> ExportPlan | None:
    """The plan in a folder; None if there is none.

    Raises:
        ConfigError: it is damaged, or a newer release wrote it.
    """
    try:
        content = dest.get(PLAN_FILE)
        plan = ADAPTER.validate_json(content, strict=True)
    except FileNotFoundError:
        return None
    except (ValidationError, ValueError) as error:
        raise ConfigError(f"{dest.path(PLAN_FILE)}: damaged: {first_problem(error)}; use a new folder") from error
    if plan.format_version > FORMAT_VERSION:
        raise ConfigError(f"{dest.path(PLAN_FILE)}: written by a newer barkery; this one reads up to {FORMAT_VERSION}")
    return plan


def write_plan(dest: Store, plan: ExportPlan, content: bytes) -> None:
    """Store the shards' pieces, then the plan; raises ConfigError if another export began there in the meantime."""
    dest.put(f"{FOLDER}/{plan.shards_file}", content)
    record = json.dumps(asdict(plan), indent=1, ensure_ascii=False).encode()
    if not dest.create(PLAN_FILE, record) and open_export(dest) != plan:
        raise ConfigError(f"{redact(dest.url)}: another export was started there at the same time")


def cut_shards(pieces: dict[str, list[Piece]], bytes_per_s: int) -> Iterator[tuple[str, int, Piece]]:
    """Put consecutive pieces of a split together until a shard is full; yields (split, shard number, piece)."""
    for split, all_pieces in pieces.items():
        total = sum(piece.samples for piece in all_pieces)
        limit = max(min(SHARD_BYTES * SAMPLE_RATE // bytes_per_s, SHARD_SAMPLES), total // MAX_SHARDS)
        number = filled = 0
        for piece in all_pieces:
            if filled and filled + piece.samples > limit:
                number, filled = number + 1, 0
            filled += piece.samples
            yield split, number, piece


def shards_table(cuts: Iterator[tuple[str, int, Piece]]) -> pa.Table:
    """All pieces with their shards as a table, in order."""
    rows = [{"split": split, "shard": shard} | vars(piece) for split, shard, piece in cuts]
    return pa.Table.from_pylist(rows, schema=COLUMNS)


def to_parquet(table: pa.Table) -> tuple[str, bytes]:
    """A file name with a hash of the content, and the content."""
    buffer = io.BytesIO()
    pq.write_table(table, buffer, compression="zstd")
    content = buffer.getvalue()
    return f"shards-{hashlib.sha256(content).hexdigest()[:16]}.parquet", content


def read_shards(dest: Store, plan: ExportPlan) -> Iterator[ExportShard]:
    """All shards of a plan, in order.

    Raises:
        ConfigError: the list is missing or damaged.
    """
    name = f"{FOLDER}/{plan.shards_file}"
    try:
        content = dest.get(name)
        if plan.shards_file != f"shards-{hashlib.sha256(content).hexdigest()[:16]}.parquet":
            raise ValueError("its content was changed")
    except (FileNotFoundError, ValueError) as error:
        raise ConfigError(f"{dest.path(name)}: missing or damaged; use a new folder") from error
    split, number, first_row = "", 0, 0
    pieces: list[Piece] = []
    for row in pq.read_table(io.BytesIO(content)).to_pylist():
        key = (row.pop("split"), row.pop("shard"))
        if pieces and key != (split, number):
            yield ExportShard(split, number, plan.splits[split].shards, pieces, first_row)
            first_row = first_row + sum(piece.rows for piece in pieces) if key[0] == split else 0
            pieces = []
        split, number = key
        pieces.append(Piece(**row))
    if pieces:
        yield ExportShard(split, number, plan.splits[split].shards, pieces, first_row)


def fingerprint(commits: list[Commit]) -> str:
    """A hash of what is committed in these parts."""
    digest = hashlib.sha256()
    for commit in commits:
        digest.update(f"{commit.shard} {commit.data.sha256 if commit.data else None}\n".encode())
    return digest.hexdigest()[:32]


def to_ranges(numbers: list[int]) -> str:
    """[0, 1, 2, 5] -> "0-2,5" """
    ranges: list[list[int]] = []
    for number in sorted(numbers):
        if ranges and number == ranges[-1][1] + 1:
            ranges[-1][1] = number
        else:
            ranges.append([number, number])
    return ",".join(str(a) if a == b else f"{a}-{b}" for a, b in ranges)


def from_ranges(text: str) -> set[int]:
    """ "0-2,5" -> {0, 1, 2, 5}"""
    pairs = (each.split("-") for each in text.split(","))
    return {number for pair in pairs for number in range(int(pair[0]), int(pair[-1]) + 1)}
