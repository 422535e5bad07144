"""Shows how a run goes on: bars on a terminal, a line every ten seconds in a log, a table at the end."""

import threading
from typing import Any

import ray
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from pipeline.flow.counts import RunCounts, StageCounts
from pipeline.flow.pool_actor import ActorSetup
from pipeline.log import fields, log

LOG_EVERY_S = 10.0
REDRAW_EVERY_S = 0.5
MIN_SHARE_FOR_ETA = 0.03  # of the work; before that an estimate of the rest would be a guess


class Progress:
    """What is known of a run in progress: committed rows, and how far each stage is."""

    def __init__(self, counts: RunCounts, setup: ActorSetup):
        self.counts = counts
        self.model = setup.model["model"]
        self.actors = sum(pool.min_actors for pool in setup.config.active_pools.values())
        self.stages = {stage.name: StageCounts() for stage in setup.stages}
        self.rows = dict.fromkeys(self.stages, 0.0)  # through each stage; unfinished ones count in part
        self.ready_s: float | None = None  # when all actors had loaded, in seconds since the start
        self.first_s: float | None = None  # when the first tokens were made

    def update(self, totals: dict[str, StageCounts]) -> None:
        """Take the board's totals. An actor that was replaced starts counting again, but progress never goes back."""
        self.stages |= totals
        for stage, counts in totals.items():
            done = min(counts.rows + counts.rows_in_work, self.counts.rows_to_do)
            self.rows[stage] = max(self.rows[stage], done)
        if self.first_s is None and any(self.rows.values()):
            self.first_s = self.counts.seconds
        if self.ready_s is None and self.ready >= self.actors:
            self.ready_s = self.counts.seconds

    @property
    def ready(self) -> int:
        """Actors that have loaded their stage."""
        return min(self.actors, sum(counts.actors for counts in self.stages.values()))

    @property
    def eta_s(self) -> float | None:
        """Seconds to go, if the rest goes on like the work since the first tokens; None while that is a guess."""
        share = sum(self.rows.values()) / max(1, len(self.rows) * self.counts.rows_to_do)
        if self.first_s is None or self.ready_s is None or share < MIN_SHARE_FOR_ETA:
            return None
        return (self.counts.seconds - self.first_s) * (1 - share) / share

    @property
    def loading(self) -> str:
        """What the actors do before the first row."""
        actors = f"{self.actors} actor{'s' if self.actors > 1 else ''}"
        if self.ready == self.actors:
            return f"{actors} ready after {self.ready_s or 0:.0f} s"
        return f"loading {self.model} in {actors}: {self.ready} ready after {self.counts.seconds:.0f} s"

    @property
    def line(self) -> str:
        """Rows of the plan that are committed or failed, audio, speed, and time to go, as far as known."""
        counts = self.counts
        parts = [f"rows {counts.rows_done:,}/{counts.num_rows:,}", f"failed {counts.failed:,}"]
        if counts.num_samples:
            parts += [f"audio {duration(counts.audio_s)}", f"speed {counts.speed:.2f}x"]
        if self.eta_s is not None:
            parts.append(f"{duration(self.eta_s)} to go")
        return " | ".join(parts)

    @property
    def line_with_stages(self) -> str:
        return f"{self.line} | " + ", ".join(f"{stage} {rows:,.1f}" for stage, rows in self.rows.items())

    def record(self) -> dict[str, Any]:
        """The fields of a log record."""
        counts = self.counts
        return {
            "rows_done": counts.rows_done,
            "rows": counts.num_rows,
            "audio_s": round(counts.audio_s, 2),
            "speed": round(counts.speed, 3),
            "failed": counts.failed,
            "rejected": counts.rejected,
            "kept": counts.kept,
            "eta_s": None if self.eta_s is None else round(self.eta_s),
            "actors": self.actors,
            "actors_ready": self.ready,
            "stage_rows": {stage: round(rows, 2) for stage, rows in self.rows.items()},
        }

    def bars(self) -> RenderableType:
        """One bar for each stage, under the line of the whole run."""
        to_do = self.counts.rows_to_do
        grid = Table.grid(padding=(0, 1))
        for stage, rows in self.rows.items():
            finished = min(self.stages[stage].rows, to_do)
            bar = ProgressBar(total=to_do, completed=rows, width=40)
            grid.add_row(Text(f"{stage:>9}"), bar, Text(f"{rows / to_do:4.0%}"), Text(f"{finished:,}/{to_do:,} rows"))
        return Group(Text(self.line if self.ready == self.actors else self.loading), grid)


class Reporter:
    """Shows the progress of a run: `with Reporter(...)`. Reads the board from its own thread."""

    def __init__(self, counts: RunCounts, setup: ActorSetup):
        self.progress = Progress(counts, setup)
        self.board = setup.board
        self.console = Console(stderr=True)
        self.is_text = setup.log_format == "text"
        self.is_gated = setup.config.quality.is_on
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True, name="progress")

    def __enter__(self) -> "Reporter":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(timeout=10)

    def _watch(self) -> None:
        has_bars = self.is_text and self.console.is_terminal and not self.console.is_dumb_terminal
        (self._show_bars if has_bars else self._log_lines)()
        self._update()

    def _update(self) -> None:
        """Ask the board; if it does not answer, the last counts stay."""
        try:
            self.progress.update(ray.get(self.board.totals.remote(), timeout=5))
        except ray.exceptions.RayError:
            pass

    def _log_lines(self) -> None:
        """While actors load, a line when another one is ready; then one every ten seconds."""
        progress = self.progress
        ready, logged_s = -1, 0.0
        while not self._stop.is_set():
            if progress.ready != ready:
                ready, logged_s = progress.ready, progress.counts.seconds
                log.info(progress.loading, extra=fields(**progress.record()))
            elif progress.counts.seconds - logged_s >= LOG_EVERY_S:
                logged_s = progress.counts.seconds
                log.info(
                    progress.line_with_stages if ready == progress.actors else progress.loading,
                    extra=fields(**progress.record()),
                )
            self._stop.wait(REDRAW_EVERY_S)
            self._update()

    def _show_bars(self) -> None:
        """Bars that disappear at the end: the table says more."""
        with Live(console=self.console, auto_refresh=False, transient=True) as live:
            while not self._stop.is_set():
                live.update(self.progress.bars(), refresh=True)
                self._stop.wait(REDRAW_EVERY_S)
                self._update()

    def finish(self) -> None:
        """The table of stages and the speed, for people; one record in JSON."""
        counts = self.progress.counts
        if self.is_text:
            self.console.print(self.table())
            if self.is_gated:
                log.info(f"quality gate: {counts.verdicts}")
            log.info(
                f"{duration(counts.audio_s)} of audio in {duration(counts.seconds)}: {counts.speed:.2f}x real time"
            )
        else:
            stages = {stage: each._asdict() for stage, each in self.progress.stages.items()}
            log.info(
                "finished", extra=fields(**self.progress.record(), seconds=round(counts.seconds, 1), stages=stages)
            )

    def table(self) -> Table:
        """By stage: actors, rows, tokens, seconds in the model, how full the slots were."""
        table = Table(box=None, pad_edge=False)
        for heading in ("stage", "actors", "rows", "tokens", "busy s", "tokens/s", "slots full"):
            table.add_column(heading, justify="left" if heading == "stage" else "right")
        for stage, counts in self.progress.stages.items():
            full = f"{counts.busy / counts.capacity:.0%}" if counts.capacity else "-"
            rate = f"{counts.tokens / counts.busy_s:,.0f}" if counts.busy_s else "-"
            numbers = (f"{counts.rows:,}", f"{counts.tokens:,}", f"{counts.busy_s:,.1f}")
            table.add_row(stage, str(counts.actors), *numbers, rate, full)
        return table


def duration(seconds: float) -> str:
    """`8 s`, `4:05 min` or `2:07 h`."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}:{rest:02d} min" if minutes < 100 else f"{minutes // 60}:{minutes % 60:02d} h"
