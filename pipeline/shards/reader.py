"""Reads what is committed: counts from the commits alone, rows from the parts that they name."""

import hashlib
import io
import re
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import soundfile

from pipeline.errors import ConfigError, one_line
from pipeline.shards.generations import chains
from pipeline.shards.plan import Plan, part_name
from pipeline.shards.writer import Commit, read_commit
from pipeline.storage.store import Store

T = TypeVar("T")
READS_AT_ONCE = 16  # of small objects and of columns: most of the time is waiting for the store
COMMIT_FILE = re.compile(r"part-(\d{5,})\.json")


def committed_shards(store: Store) -> set[int]:
    """Numbers of the committed shards, from one listing of the folder."""
    return {int(match[1]) for name in store.names("_commits") if (match := COMMIT_FILE.fullmatch(name))}


def commits(store: Store) -> list[Commit]:
    """All commits, in shard order.

    Raises:
        ConfigError: a commit can't be read.
    """
    with ThreadPoolExecutor(READS_AT_ONCE) as pool:
        return list(pool.map(lambda shard: read_commit(store, shard), sorted(committed_shards(store))))


@dataclass(frozen=True)
class RowCounts:
    """How many of the manifest's rows are in data, failing now, or still to go; and what the quality gate did."""

    num_rows: int
    written: int
    failed: int
    retried: int = 0  # of the written: accepted by the gate after one that it rejected
    kept: int = 0  # of the written: the best of attempts that the gate rejected
    rejected: int = 0  # of the failed: by the gate
    is_gated: bool = False

    @property
    def to_go(self) -> int:
        return self.num_rows - self.written - self.failed

    @property
    def verdicts(self) -> str:
        """What the quality gate did, for people."""
        accepted = self.written - self.retried - self.kept
        return (
            f"accepted {accepted:,}, accepted after retry {self.retried:,}, kept as best {self.kept:,}, "
            f"rejected {self.rejected:,}"
        )

    def __str__(self) -> str:
        left = f" + to go {self.to_go:,}" if self.to_go else ""
        return f"in {self.num_rows:,} = written {self.written:,} + failed {self.failed:,}{left}"


def count_rows(plans: list[Plan], commits: list[Commit]) -> RowCounts:
    """Counts from plans and commits alone.

    Every plan but the first has rows that had failed before it, so these are not failing any more.
    """
    attempts = [plan for plan in plans if plan.attempt]
    chain = chains(plans)[-1]
    now = [commit for commit in commits if commit.shard >= chain[0].first_shard]  # of the last chain
    again = [commit for commit in commits if any(commit.shard in plan.shards for plan in attempts)]
    return RowCounts(
        plans[0].num_rows,
        written=sum(commit.written for commit in commits),
        failed=sum(commit.failed for commit in commits) - sum(plan.num_rows for plan in plans[1:]),
        retried=sum(commit.written - commit.kept for commit in again),
        kept=sum(commit.kept for commit in commits),
        rejected=sum(commit.rejected for commit in now) - sum(plan.num_rows for plan in chain[1:]),
        is_gated=bool(plans[-1].identity.get("quality", {}).get("attempts")),
    )


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

    def read(file: Any) -> T:
        try:
            return query(pq.ParquetFile(file))
        except OSError as error:
            if type(error) is OSError and error.errno is None:  # Arrow can't decompress it: no failure of the storage
                raise pa.ArrowInvalid(str(error)) from error
            raise

    try:
        return store.read(name, read)
    except (FileNotFoundError, pa.ArrowException) as error:
        raise damaged(store, name, error) from error


def query_parts(
    store: Store, commits: Iterable[Commit], query: Callable[[pq.ParquetFile], T], kind: str = "data"
) -> Iterator[T]:
    """`query_part` of several parts at a time; yields the results in order."""
    with ThreadPoolExecutor(READS_AT_ONCE) as pool:
        yield from pool.map(lambda commit: query_part(store, commit, query, kind), commits)


def read_columns(parquet: pq.ParquetFile, columns: list[str] | None = None) -> pa.Table:
    """Some columns of a part, without the others; None is all but the audio. One that the part lacks is left out."""
    names = parquet.schema_arrow.names
    return parquet.read(columns=[each for each in names if (each != "audio" if columns is None else each in columns)])


def decode_clip(store: Store, shard: int, content: bytes) -> tuple[np.ndarray, int]:
    """The samples (N,) int16 and the rate in Hz of a clip's sound file, from this shard's data part.

    Raises:
        ConfigError: it can't be decoded, so the part is damaged.
    """
    try:
        samples, rate = soundfile.read(io.BytesIO(content), dtype="int16")
    except soundfile.LibsndfileError as error:
        raise damaged(store, f"data/{part_name(shard)}.parquet", error) from error
    return samples, rate


def damaged(store: Store, name: str, error: Exception) -> ConfigError:
    """The error for a committed part that can't be used."""
    reason = "is missing" if isinstance(error, FileNotFoundError) else f"is damaged: {one_line(error)}"
    return ConfigError(
        f"{store.path(name)}: {reason}, though it is committed; `barkery verify` lists all damage. To make the part "
        f"again, delete it and {store.path('_commits')}/{name.split('/')[1].removesuffix('.parquet')}.json, and run "
        "`barkery generate` again"
    )
