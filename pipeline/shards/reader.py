"""Reads what is committed: counts from the commits alone, rows from the parts that they name."""

import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import pyarrow.parquet as pq

from pipeline.shards.plan import Plan, part_name
from pipeline.shards.writer import Commit, read_commit
from pipeline.storage.store import Store

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
