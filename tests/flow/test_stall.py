"""A stage that makes tokens is not stalled, however long a shard stays in it; one without any progress is."""

import time
from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from pipeline.bark.registry import STAGES
from pipeline.flow import stall
from pipeline.flow.counts import StageCounts
from pipeline.flow.driver import run
from tests.flow.conftest import FAILED, MakeConfig
from tests.flow.in_process import local_board

COARSE = STAGES["coarse"]
STALL_S = 20.0  # loading takes less; no token is made then


def build_slow_stage(checkpoint: Any, execution: Any) -> Any:
    """A coarse stage that takes twice the stall timeout for its shard, token by token."""
    stage, start = COARSE.build(checkpoint, execution), time.monotonic()
    step = stage.step

    def slow_step() -> bool:
        time.sleep(0.3 if time.monotonic() < start + 2 * STALL_S else 0)
        return bool(step())

    stage.step = slow_step  # type: ignore[method-assign]
    return stage


@pytest.mark.faults
@pytest.mark.usefixtures("cluster")
def test_tokens_are_progress(
    make_config: MakeConfig, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(STAGES, "coarse", replace(COARSE, build=build_slow_stage))
    assert run(make_config(stall_timeout_s=STALL_S, rows_per_shard=64)).failed == len(FAILED)
    assert "round ended early" not in capfd.readouterr().err


@pytest.mark.usefixtures("in_process")
def test_guard_raises_only_when_nothing_moves(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two seconds of tokens, two of shards, then nothing; the clock goes on by a tenth of a second for each step."""
    board, clock = local_board(), SimpleNamespace(now=0.0)
    monkeypatch.setattr(stall, "time", SimpleNamespace(monotonic=lambda: clock.now))
    operator = SimpleNamespace(metrics=SimpleNamespace(num_outputs_taken=0))
    executor = SimpleNamespace(_topology=[operator])
    guard = stall.stall_guard(board, 1.0)()

    def step_for(seconds: float, change: Callable[[int], object]) -> None:
        for i in range(round(seconds / 0.1)):
            change(i)
            guard.on_execution_step(executor)
            clock.now += 0.1

    step_for(2.0, lambda i: board.report.remote("fine", "actor", StageCounts(tokens=i, busy=i, capacity=i)))  # tokens
    step_for(2.0, lambda i: setattr(operator.metrics, "num_outputs_taken", i))  # shards
    with pytest.raises(TimeoutError, match="no shard moved and no token was made for 1 s"):
        step_for(
            3.0,
            lambda i: board.report.remote(
                "fine", "actor", StageCounts(tokens=19, busy=19, capacity=19, busy_s=float(i))
            ),
        )  # only busy time grows
    assert 5.0 < clock.now < 6.0  # 1 s after the last shard, and the guard looks four times a second
