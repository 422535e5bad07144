"""Keeps the output's card up to date while a run works."""

import time

from pipeline.dataset.output_card import write_progress_card
from pipeline.errors import StorageError
from pipeline.log import log
from pipeline.shards.plan import Plan
from pipeline.shards.reader import RowCounts, commits
from pipeline.spec import SAMPLE_RATE
from pipeline.storage.store import Store

EVERY_S = 60.0


class LiveCard:
    """Writes README.md about once a minute, with what was committed before and what this run has added."""

    def __init__(self, store: Store, plan: Plan):
        self.store, self.plan = store, plan
        before = [commit for commit in commits(store) if commit.shard in plan.shards]
        self.written = sum(commit.written for commit in before)
        self.failed = sum(commit.failed for commit in before)
        self.num_samples = sum(commit.num_samples for commit in before)
        self._due = time.monotonic() + EVERY_S

    def add(self, written: int, failed: int, num_samples: int) -> None:
        """One more shard."""
        self.written += written
        self.failed += failed
        self.num_samples += num_samples
        if time.monotonic() < self._due:
            return
        self._due = time.monotonic() + EVERY_S
        counts = RowCounts(self.plan.num_rows, self.written, self.failed)
        try:
            write_progress_card(self.store, self.plan.identity, counts, self.num_samples / SAMPLE_RATE)
        except StorageError as error:  # the shards matter, and they are retried; the next minute may write the card
            log.warning(f"the card was not updated: {error}")
