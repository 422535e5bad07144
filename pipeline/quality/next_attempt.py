"""The plan of the next generation: the rows that the gate has rejected, with the seeds of their next attempts."""

from collections.abc import Iterator
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.quality.attempts import BY_CHANCE, Attempt, attempt_seed, best, of_rows
from pipeline.quality.settings import QualitySettings
from pipeline.schema import ATTEMPTS
from pipeline.shards.generations import failures, with_column
from pipeline.shards.plan import Plan, planned_shards
from pipeline.shards.writer import Commit
from pipeline.storage.store import Store


@dataclass(frozen=True)
class NextAttempt:
    """What follows a generation whose shards are all committed."""

    last: Plan
    commits: list[Commit]  # of the last plan
    remakes: bool  # all attempts are used: make the best ones again

    @classmethod
    def after(cls, last: Plan, commits: list[Commit], quality: QualitySettings) -> "NextAttempt | None":
        """The generation after `last`; None if no row is to be spoken again."""
        rejecting = [commit for commit in commits if commit.shard in last.shards and commit.rejected]
        remakes = last.attempt + 1 >= quality.attempts
        if not rejecting or last.remakes or (remakes and quality.keep == "none"):
            return None
        return cls(last, rejecting, remakes)

    def rows(self, store: Store) -> Iterator[pa.Table]:
        """The rows as they were planned, with the next seed and all attempts so far."""
        shards = {commit.shard for commit in self.commits}
        for shard, rows in zip(self.last.shards, planned_shards(store, self.last), strict=True):
            if shard in shards:
                yield self._again(rows, failures(store, shard, ("id", "error_type", "attempts")))

    def _again(self, rows: pa.Table, failed: pa.Table) -> pa.Table:
        tried = {r["id"]: r["attempts"] for r in failed.to_pylist() if r["error_type"] in BY_CHANCE}
        seeds = {row_id: self._seed(attempts) for row_id, attempts in tried.items()}
        again = [row_id for row_id, seed in seeds.items() if seed is not None]
        rows = rows.filter(pc.is_in(rows["id"], value_set=pa.array(again, pa.string())))
        ids = rows["id"].to_pylist()
        rows = with_column(rows, "seed", pa.array([seeds[row_id] for row_id in ids], pa.int64()))
        return with_column(rows, "attempts", pa.array([tried[row_id] for row_id in ids], ATTEMPTS))

    def _seed(self, attempts: list[Attempt]) -> int | None:
        """The seed of a row's next attempt; None if there is nothing to make again."""
        if self.remakes:
            kept = best(attempts)
            return kept["seed"] if kept else None
        seed: int | None = of_rows(attempts)[0]["seed"]
        return None if seed is None else attempt_seed(seed, self.last.attempt + 1)
