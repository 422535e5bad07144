"""Counts for the progress display: what actors report, and what the run has committed."""

import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from pipeline import spec
from pipeline.flow.live_card import LiveCard
from pipeline.shards.environment import EnvironmentWatch


class StageCounts(NamedTuple):
    """What one actor, or all actors of a stage together, have done so far."""

    actors: int = 0  # that have loaded their stage
    rows: int = 0  # finished
    rows_in_work: float = 0.0  # unfinished rows, each counted as the estimated share that is done
    tokens: int = 0
    busy: int = 0  # slot-steps that served a row
    capacity: int = 0  # slot-steps
    busy_s: float = 0.0  # seconds in the model


def total(counts: Iterable[StageCounts]) -> StageCounts:
    return StageCounts(*(sum(column) for column in zip(StageCounts(), *counts, strict=True)))


class RowsInWork:
    """Counts the rows of one actor and estimates how far the unfinished ones are."""

    def __init__(self) -> None:
        self.rows_done = 0
        self._rows = 0  # in work
        self._segments = 0  # of these rows
        self._segments_done = 0

    def start(self, num_segments: list[int]) -> None:
        """Rows enter the stage, with so many segments each."""
        self._rows += len(num_segments)
        self._segments += sum(num_segments)

    def segment_done(self) -> None:
        self._segments_done += 1

    def finish_row(self, num_segments: int) -> None:
        """A row leaves the stage; each of its segments is done."""
        self.rows_done += 1
        self._rows -= 1
        self._segments -= num_segments
        self._segments_done -= num_segments

    def rows_in_work(self, partial: float) -> float:
        """The unfinished rows, each as the share that is done; `partial` is that of the segments in the model."""
        if not self._segments:
            return 0.0
        return self._rows * min(1.0, (self._segments_done + partial) / self._segments)


@dataclass
class RunCounts:
    """What is committed: before this run and in it."""

    num_rows: int
    rows_before: int = 0  # committed before this run
    written: int = 0
    failed: int = 0
    rejected: int = 0  # of the failed, by the quality gate
    kept: int = 0  # of the written, the best of rejected attempts
    num_samples: int = 0  # of this run
    already_committed: int = 0  # shards that another run had committed
    environments: EnvironmentWatch | None = None  # of the shards committed before this run
    card: LiveCard | None = None  # of the output, if this run's rows are all of it
    start: float = field(default_factory=time.monotonic)
    deadline: float | None = None  # by the same clock: the run stops then

    @property
    def rows_done(self) -> int:
        return self.rows_before + self.written + self.failed

    @property
    def verdicts(self) -> str:
        """What the quality gate did in this generation, for people."""
        return f"accepted {self.written - self.kept:,}, kept as best {self.kept:,}, rejected {self.rejected:,}"

    @property
    def rows_to_do(self) -> int:
        """Rows of this run, done or not."""
        return self.num_rows - self.rows_before

    @property
    def audio_s(self) -> float:
        return self.num_samples / spec.SAMPLE_RATE

    @property
    def is_over_budget(self) -> bool:
        return self.deadline is not None and time.monotonic() > self.deadline

    @property
    def seconds(self) -> float:
        """Wall seconds since the run began."""
        return time.monotonic() - self.start

    @property
    def speed(self) -> float:
        """Committed audio seconds per wall second."""
        return self.audio_s / max(1e-9, self.seconds)
