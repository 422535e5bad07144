"""The progress display: estimates that never go back, lines for people, records for programs."""

import json
import time
from collections.abc import Iterator
from typing import Any

import pytest
from rich.console import Console

from pipeline.bark.registry import STAGES
from pipeline.config import parse
from pipeline.flow import progress
from pipeline.flow.counts import RowsInWork, RunCounts, StageCounts, total
from pipeline.flow.pool_actor import ActorSetup
from pipeline.flow.progress import Progress, Reporter, duration
from pipeline.log import configure
from pipeline.shards.plan import Plan


@pytest.fixture(autouse=True)
def default_format() -> Iterator[None]:
    yield
    configure()


def setup(board: Any = None, log_format: Any = "text") -> ActorSetup:
    config = parse({"model": "m", "manifest": "a", "output": "b"}, "test")
    stages = tuple(STAGES.values())
    return ActorSetup(config, Plan({}, 10, 4), {"model": "puppy"}, None, stages, board, log_format)


def test_rows_in_work_count_by_their_segments() -> None:
    rows = RowsInWork()
    assert rows.rows_in_work(partial=0) == 0
    rows.start([1, 3])
    assert rows.rows_in_work(partial=1.0) == pytest.approx(2 * 1 / 4)
    rows.segment_done()
    rows.segment_done()
    assert rows.rows_in_work(partial=0.5) == pytest.approx(2 * 2.5 / 4)
    rows.finish_row(1)  # the other finished segment is one of three
    assert rows.rows_done == 1 and rows.rows_in_work(partial=0) == pytest.approx(1 / 3)
    assert rows.rows_in_work(partial=9.0) == 1  # more tokens than expected
    rows.segment_done()
    rows.segment_done()
    rows.finish_row(3)
    assert (rows.rows_done, rows.rows_in_work(partial=0)) == (2, 0)


def test_totals_add_up_over_actors() -> None:
    assert total([]) == StageCounts()
    one = StageCounts(actors=1, rows=2, rows_in_work=0.5, tokens=10, busy=3, capacity=4, busy_s=1.5)
    assert total([one, one]) == StageCounts(2, 4, 1.0, 20, 6, 8, 3.0)


def test_progress_never_goes_back_or_over_the_end() -> None:
    shown = Progress(RunCounts(10, rows_before=4), setup())
    for counts, expected in (
        (StageCounts(1, rows=2, rows_in_work=1.5), 3.5),
        (StageCounts(1, rows=1, rows_in_work=0.0), 3.5),  # the actor was replaced and starts again
        (StageCounts(1, rows=5, rows_in_work=4.0), 6.0),  # 6 rows are left of 10
    ):
        shown.update({"fine": counts})
        assert shown.rows["fine"] == expected and shown.rows["decode"] == 0


def test_actors_that_load_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    counts = RunCounts(10)
    shown = Progress(counts, setup())
    assert shown.loading == "loading puppy in 4 actors: 0 ready after 0 s"
    shown.update({"semantic": StageCounts(1), "coarse": StageCounts(1)})
    assert shown.loading == "loading puppy in 4 actors: 2 ready after 0 s" and shown.eta_s is None
    counts.start -= 12
    shown.update({"fine": StageCounts(1), "decode": StageCounts(2)})  # one of them replaced another
    assert shown.loading == "4 actors ready after 12 s"
    assert shown.line == "rows 0/10 | failed 0"  # no time to go before the first tokens
    shown.update({"semantic": StageCounts(1, rows_in_work=4.0)})
    counts.start -= 30
    assert shown.eta_s == pytest.approx(30 * 0.9 / 0.1, rel=0.01)
    assert shown.line.endswith(" | 4:30 min to go")


@pytest.mark.parametrize(("seconds", "shown"), [(0.4, "0 s"), (99, "99 s"), (245, "4:05 min"), (7650, "2:07 h")])
def test_durations_for_people(seconds: float, shown: str) -> None:
    assert duration(seconds) == shown


class FakeBoard:
    """`board.totals.remote()` answers from a list, the last answer again and again."""

    def __init__(self, *answers: dict[str, StageCounts]):
        self.answers = list(answers)
        self.totals = self

    def remote(self) -> dict[str, StageCounts]:
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]


ALL_READY = {stage: StageCounts(actors=1, rows=1, tokens=8, busy=3, capacity=4, busy_s=2.0) for stage in STAGES}


def report(monkeypatch: pytest.MonkeyPatch, log_format: Any) -> None:
    """A short run of three rows, with all timers at once."""
    monkeypatch.setattr(progress.ray, "get", lambda totals, timeout: totals)
    monkeypatch.setattr(progress, "REDRAW_EVERY_S", 0.01)
    monkeypatch.setattr(progress, "LOG_EVERY_S", 0.0)
    configure(log_format)
    counts = RunCounts(3, written=1, num_samples=48_000)
    with Reporter(counts, setup(FakeBoard({"fine": StageCounts(1)}, ALL_READY), log_format)) as reporter:
        while reporter.progress.ready < 4 or not reporter.progress.line_with_stages.endswith("decode 1.0"):
            time.sleep(0.01)
    reporter.finish()


def test_log_in_text(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    report(monkeypatch, "text")
    lines = capsys.readouterr().err.splitlines()
    assert lines[:2] == [f"loading puppy in 4 actors: {ready} ready after 0 s" for ready in (0, 1)]
    assert "4 actors ready after 0 s" in lines
    assert lines[-6].split() == ["stage", "actors", "rows", "tokens", "busy", "s", "tokens/s", "slots", "full"]
    assert lines[-2].split() == ["decode", "1", "1", "8", "2.0", "4", "75%"]
    assert lines[-1].startswith("2 s of audio in 0 s: ")


def test_log_in_json(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    report(monkeypatch, "json")
    records = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert records[0]["message"] == "loading puppy in 4 actors: 0 ready after 0 s" and records[0]["actors_ready"] == 0
    last = records[-1]
    assert last["message"] == "finished" and last["stages"]["decode"]["tokens"] == 8
    known = {"rows_done": 1, "rows": 3, "audio_s": 2.0, "failed": 0}
    assert {name: last[name] for name in known} == known and {"speed", "eta_s"} <= last.keys()


def test_bars_show_rows_by_stage() -> None:
    shown = Progress(RunCounts(4), setup())
    shown.update({"semantic": StageCounts(1, rows=1, rows_in_work=1.0)})
    console = Console(width=100, record=True)
    with console.capture() as captured:
        console.print(shown.bars())
    lines = captured.get().splitlines()
    assert lines[0].rstrip() == "loading puppy in 4 actors: 1 ready after 0 s"
    assert lines[1].split()[0] == "semantic" and "50% 1/4 rows" in lines[1]
    assert [line.split()[0] for line in lines[1:]] == list(STAGES)
