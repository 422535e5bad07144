"""Reads what is committed: counts from the commits alone, rows from the parts that they name."""

import hashlib
import io
import re
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.errors import ConfigError, one_line
from pipeline.shards.plan import Plan, part_name
from pipeline.shards.writer import Commit, read_commit
from pipeline.storage.store import Store

T = TypeVar("T")
COMMIT_FILE = re.compile(r"part-(\d{5,})\.json")


def committed_shards(store: Store) -> set[int]:
    """Numbers of the committed shards, from one listing of the folder."""
    return {int(match[1]) for name in store.names("_commits") if (match := COMMIT_FILE.fullmatch(name))}


def commits(store: Store) -> list[Commit]:
    """All commits, in shard order.

    Raises:
        ConfigError: a commit can't be read.
    """
    with ThreadPoolExecutor(16) as pool:  # the objects are small, so most of the time is waiting for the store
        return list(pool.map(lambda shard: read_commit(store, shard), sorted(committed_shards(store))))


@dataclass(frozen=True)
class RowCounts:
    """How many of the manifest's rows are in data, failed in the last generation, or still to go."""

    num_rows: int
    written: int
    failed: int

    @property
    def to_go(self) -> int:
        return self.num_rows - self.written - self.failed

    def __str__(self) -> str:
        left = f" + to go {self.to_go:,}" if self.to_go else ""
        return f"in {self.num_rows:,} = written {self.written:,} + failed {self.failed:,}{left}"


def count_rows(plans: list[Plan], commits: list[Commit]) -> RowCounts:
    """Counts from plans and commits alone.

    A retry's plan has all rows that had failed before it, so only the last plan's failures count.
    """
    failed = sum(commit.failed for commit in commits if commit.shard in plans[-1].shards)
    return RowCounts(plans[0].num_rows, sum(commit.written for commit in commits), failed)


def rows(store: Store, columns: list[str] | None = None, kind: str = "data") -> Iterator[dict[str, Any]]:
    """Committed rows (`data` or `failures`), in the manifest's order, one part in memory at a time."""
    for commit in commits(store):
        if getattr(commit, kind) is not None:
            name = f"{kind}/{part_name(commit.shard)}.parquet"
            yield from store.read(name, lambda file: pq.ParquetFile(file).read(columns=columns).to_pylist())


def read_part(store: Store, commit: Commit, kind: str = "data") -> pa.Table:
    """One committed part (`data` or `failures`) with all columns, checked against its commit's hash.

    Raises:
        ConfigError: the part is missing, or is not what was committed.
    """
    name = f"{kind}/{part_name(commit.shard)}.parquet"
    file = getattr(commit, kind)
    try:
        content = store.get(name)
        if hashlib.sha256(content).hexdigest() != file.sha256:
            raise ValueError("it differs from what was committed")
        return pq.read_table(io.BytesIO(content))
    except (FileNotFoundError, ValueError) as error:
        raise damaged(store, name, error) from error


def query_part(store: Store, commit: Commit, query: Callable[[pq.ParquetFile], T], kind: str = "data") -> T:
    """What `query` reads of one committed part. The hash is not checked, since that needs the whole part.

    Raises:
        ConfigError: the part is missing or can't be read.
    """
    name = f"{kind}/{part_name(commit.shard)}.parquet"
    try:
        return store.read(name, lambda file: query(pq.ParquetFile(file)))
    except (FileNotFoundError, pa.ArrowException) as error:
        raise damaged(store, name, error) from error


def read_columns(parquet: pq.ParquetFile, columns: list[str] | None = None) -> pa.Table:
    """Some columns of a part, without the others; None is all but the audio. One that the part lacks is left out."""
    names = parquet.schema_arrow.names
    return parquet.read(columns=[each for each in names if (each != "audio" if columns is None else each in columns)])


def damaged(store: Store, name: str, error: Exception) -> ConfigError:
    """The error for a committed part that can't be used."""
    reason = "is missing" if isinstance(error, FileNotFoundError) else f"is damaged: {one_line(error)}"
    return ConfigError(
        f"{store.path(name)}: {reason}, though it is committed; `barkery verify` lists all damage. To make the part "
        f"again, delete it and {store.path('_commits')}/{name.split('/')[1].removesuffix('.parquet')}.json, and run "
        "`barkery generate` again"
    )
