"""The numbers at the top of a report."""

from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any

from pipeline.report.scan import stable_rank
from pipeline.shards.generations import not_taken, parts_with_failures
from pipeline.shards.plan import Plan, run_file
from pipeline.shards.reader import RowCounts, count_rows, query_parts, read_columns
from pipeline.shards.verify import status
from pipeline.shards.writer import Commit
from pipeline.spec import SAMPLE_RATE
from pipeline.storage.store import Store

PAUSE = timedelta(minutes=30)  # without a commit for longer, the run is taken to have been stopped


@dataclass
class Summary:
    """What is known of a run without reading its clips."""

    plans: list[Plan]
    commits: list[Commit]
    counts: RowCounts
    failures: Counter[str] = field(default_factory=Counter)  # of now, by kind
    failed_rows: list[dict[str, Any]] = field(default_factory=list)  # some of them
    begun: datetime | None = None
    last: datetime | None = None  # the newest commit
    worked_s: float | None = None  # wall seconds without pauses

    @property
    def audio_s(self) -> float:
        return sum(commit.num_samples for commit in self.commits) / SAMPLE_RATE

    @property
    def speed(self) -> float | None:
        """Audio seconds per wall second."""
        return self.audio_s / self.worked_s if self.worked_s else None


def summarize(store: Store, failed_shown: int) -> Summary:
    """Read plans, commits and failures.

    Raises:
        ConfigError: there is no run, or a plan, a commit or a failures part is damaged.
    """
    found = status(store)
    summary = Summary(found.plans, found.commits, count_rows(found.plans, found.commits))
    failing = list(parts_with_failures(store, found.plans, found.commits))
    parts = [commit for commit, _ in failing]
    tables = query_parts(store, parts, read_columns, "failures")
    for table, (_, taken) in zip(tables, failing, strict=True):
        rows = not_taken(table, taken).to_pylist()
        summary.failures.update(row["error_type"] for row in rows)
        summary.failed_rows = sorted([*summary.failed_rows, *rows], key=failure_rank)[:failed_shown]
    set_times(summary, store)
    return summary


def failure_rank(row: dict[str, Any]) -> float:
    return stable_rank(str(row["id"]))


def set_times(summary: Summary, store: Store) -> None:
    """When the run began and how long it worked, from the times at which its objects were written."""
    name = run_file(0).rpartition("/")
    begun = store.times(name[0]).get(name[2])
    moments = sorted(store.times("_commits").values())
    if begun and moments:
        summary.begun, summary.last = begun, moments[-1]
        gaps = [after - before for before, after in pairwise([begun, *moments])]
        worked = sum((gap for gap in gaps if timedelta(0) < gap < PAUSE), timedelta(0))
        summary.worked_s = worked.total_seconds() or None
