"""Which rows of a part go into which split of an export."""

import hashlib
from collections import Counter
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
import pyarrow as pa

from pipeline.export.settings import ExportSettings
from pipeline.shards.reader import query_part, read_columns
from pipeline.shards.writer import Commit
from pipeline.spec import SAMPLE_RATE
from pipeline.storage.store import Store

PIECE_SAMPLES = 1800 * SAMPLE_RATE  # half an hour: the smallest unit that shards are made of
NEEDED = ["id", "language", "voice", "num_samples"]
MAX_COUNTED = 1000  # different values of a column; more are not listed on a card


@dataclass(frozen=True)
class Piece:
    """Some consecutive rows of a part, and how many of them go into one split."""

    part: int  # the part's shard number
    start: int
    stop: int  # rows start .. stop - 1
    rows: int  # of the split
    samples: int  # of these rows


@dataclass
class Selection:
    """What a few parts add to an export."""

    pieces: dict[str, list[Piece]] = field(default_factory=dict)  # by split
    schemas: list[pa.Schema] = field(default_factory=list)  # all different ones
    languages: Counter[str] = field(default_factory=Counter)
    voices: Counter[str] = field(default_factory=Counter)


def split_of_rows(table: pa.Table, settings: ExportSettings) -> np.ndarray:
    """(N,) int: each row's number in `settings.splits`, -1 where the condition does not hold.

    A row's split follows from the value of one column alone, so it stays the same in every export.
    """
    chosen = np.zeros(len(table), dtype=np.int64)
    if len(settings.splits) > 1:
        ends = np.cumsum([share for _, share in settings.splits])[:-1]
        values = table[settings.split_by].to_pylist()
        cache = {value: int(np.searchsorted(ends, unit_hash(value), side="right")) for value in set(values)}
        chosen = np.array([cache[value] for value in values], dtype=np.int64)
    if condition := settings.condition:
        keep = np.zeros(len(table), dtype=bool)
        keep[condition.positions(table)] = True
        chosen[~keep] = -1
    return chosen


def unit_hash(value: object) -> float:
    """A value's place in 0 .. 1, the same on every machine; null is a value like any other."""
    digest = hashlib.blake2b(repr(value).encode(), digest_size=8, person=b"barkery-split").digest()
    return int.from_bytes(digest, "big") / 2**64


def select_parts(store: Store, settings: ExportSettings, commits: list[Commit]) -> Selection:
    """Read the columns of these parts that decide, without the audio."""
    found = Selection({name: [] for name in settings.split_names})
    columns = None if settings.where else [*NEEDED, settings.split_by]
    for commit in commits:
        table, schema = query_part(store, commit, lambda file: (read_columns(file, columns), file.schema_arrow))
        schema = schema.remove_metadata()
        if schema not in found.schemas:
            found.schemas.append(schema)
        chosen = split_of_rows(table, settings)
        for number, name in enumerate(settings.split_names):
            found.pieces[name] += pieces_of(commit.shard, table["num_samples"].to_numpy(), chosen == number)
        kept = table.filter(pa.array(chosen >= 0))
        for column, counts in (("language", found.languages), ("voice", found.voices)):
            counts.update(value for value in kept[column].to_pylist() if value is not None)
            limit(counts)
    return found


def limit(counts: Counter[str]) -> None:
    """Keep the memory of a column with a new value in every row small: only that there are many is of interest."""
    for value, _ in counts.most_common()[10 * MAX_COUNTED :]:
        del counts[value]


def pieces_of(part: int, num_samples: np.ndarray, mask: np.ndarray) -> list[Piece]:
    """Cut one part's rows of a split at about half an hour of its audio; no piece where there are none."""
    total = np.cumsum(np.where(mask, num_samples, 0))
    starts = np.flatnonzero(np.diff(total // PIECE_SAMPLES, prepend=0)).tolist()
    edges = sorted({0, *starts, len(mask)})
    pieces = []
    for start, stop in pairwise(edges):
        if rows := int(mask[start:stop].sum()):
            pieces.append(Piece(part, start, stop, rows, int(num_samples[start:stop][mask[start:stop]].sum())))
    return pieces
