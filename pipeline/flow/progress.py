"""What the job is doing: a bar per stage on a terminal, a line every ten seconds in a log, a table at the end."""

import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import ray
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from pipeline import spec
from pipeline.bark.registry import STAGES
from pipeline.flow.isolation import AttemptKey, AttemptTracker
from pipeline.log import log

LOG_EVERY_S = 10.0
Counts = tuple[int, int, int, int, float]  # rows, tokens, busy and capacity slot-steps, busy seconds


@ray.remote(num_cpus=0, max_restarts=-1, max_task_retries=-1)
class Board(AttemptTracker):
    """Holds the last word of every actor, and what was begun and not ended. Losing it loses a bar, and memory of
    crashes: nothing else."""

    def __init__(self) -> None:
        super().__init__()
        self.said: dict[str, dict[str, Counts]] = {stage: {} for stage in STAGES}

    def begin(self, key: AttemptKey, node: str, at_most: int | None = None) -> int:
        if key in self.nodes:
            self.forget_lost_nodes({node["NodeID"] for node in ray.nodes() if node["Alive"]})
        return super().begin(key, node, at_most)

    def report(self, stage: str, actor: str, counts: Counts) -> None:
        self.said[stage][actor] = counts

    def totals(self) -> dict[str, tuple[int, Counts]]:
        """By stage: actors heard of, and their sums."""
        return {stage: (len(by_actor), add(by_actor.values())) for stage, by_actor in self.said.items()}


def add(counts: Iterable[Counts]) -> Counts:
    rows, tokens, busy, capacity, busy_s = (sum(column) for column in zip((0, 0, 0, 0, 0.0), *counts, strict=True))
    return int(rows), int(tokens), int(busy), int(capacity), busy_s


@dataclass
class Tally:
    """What is committed: before this run and in it."""

    num_rows: int
    rows_before: int = 0
    written: int = 0
    failed: int = 0
    num_samples: int = 0  # of this run
    already_committed: int = 0  # shards that somebody else had committed
    start: float = field(default_factory=time.monotonic)

    @property
    def rows_done(self) -> int:
        return self.rows_before + self.written + self.failed

    @property
    def audio_s(self) -> float:
        return self.num_samples / spec.SAMPLE_RATE

    @property
    def speed(self) -> float:
        """Committed audio seconds per wall second."""
        return self.audio_s / max(1e-9, time.monotonic() - self.start)

    def line(self, stages: dict[str, int]) -> str:
        """One readable line: rows, audio, speed, failures, time left, and how far each stage is."""
        fresh = self.written + self.failed
        eta = "unknown"
        if fresh:
            left_s = (self.num_rows - self.rows_done) * (time.monotonic() - self.start) / fresh
            eta = f"{int(left_s // 3600)}:{int(left_s // 60) % 60:02d}:{int(left_s) % 60:02d}"
        ahead = " ".join(f"{stage} {min(rows, self.num_rows):,}" for stage, rows in stages.items())
        return (
            f"rows {self.rows_done:,}/{self.num_rows:,} | audio {self.audio_s / 3600:.2f} h | speed {self.speed:.2f}x "
            f"| failed {self.failed:,} | ETA {eta} | {ahead}"
        )


class Reporter:
    """Shows a tally while a run goes on: `with Reporter(...)`. Reads the board from its own thread."""

    def __init__(self, tally: Tally, board: Any):
        self.tally = tally
        self.board = board
        self.console = Console(stderr=True)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True, name="progress")
        self.totals: dict[str, tuple[int, Counts]] = {}

    def __enter__(self) -> "Reporter":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(timeout=10)

    def _watch(self) -> None:
        show = self._bars if self.console.is_terminal else self._lines
        show()
        self._ask()

    def _ask(self) -> dict[str, int]:
        """Rows done by each stage in this run; the last known where the board doesn't answer."""
        try:
            self.totals = ray.get(self.board.totals.remote(), timeout=5)
        except ray.exceptions.RayError:
            pass
        return {stage: counts[0] for stage, (_, counts) in self.totals.items()}

    def _lines(self) -> None:
        while not self._stop.wait(LOG_EVERY_S):
            log.info(self.tally.line(self._ask()))

    def _bars(self) -> None:
        columns = (TextColumn("{task.description:>9}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        with Progress(*columns, TextColumn("{task.fields[note]}"), console=self.console) as progress:
            left = self.tally.num_rows - self.tally.rows_before
            bars = {stage: progress.add_task(stage, total=left, note="") for stage in STAGES}
            ended = False
            while not ended:
                ended = self._stop.wait(0.5)
                for stage, rows in self._ask().items():
                    progress.update(bars[stage], completed=min(rows, left))
                note = f"{self.tally.speed:.2f}x, {self.tally.failed} failed"
                progress.update(bars["decode"], note=note)

    def table(self) -> Table:
        """By stage: actors, rows, tokens, seconds at work, how full the slots were."""
        table = Table(box=None, pad_edge=False)
        for heading in ("stage", "actors", "rows", "tokens", "busy s", "tokens/s", "slots full"):
            table.add_column(heading, justify="left" if heading == "stage" else "right")
        for stage, (actors, (rows, tokens, busy, capacity, busy_s)) in self.totals.items():
            full = f"{busy / capacity:.0%}" if capacity else "-"
            rate = f"{tokens / busy_s:,.0f}" if busy_s else "-"
            table.add_row(stage, str(actors), f"{rows:,}", f"{tokens:,}", f"{busy_s:,.1f}", rate, full)
        return table
