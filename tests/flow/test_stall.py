"""A stage that makes tokens is not stalled, however long a shard stays in it; one in which nothing moves is."""

import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from pipeline.config import RunConfig
from pipeline.flow import pools
from pipeline.flow.actors import POOLS
from pipeline.flow.driver import run
from pipeline.flow.progress import Board
from pipeline.flow.stall import stall_guard
from tests.flow.conftest import FAILED

STALL_S = 20.0  # loading takes less, and nothing moves then


class Slow(POOLS["coarse"]):  # type: ignore[misc]
    """Twice as long over its shard as what counts as a stall, a token after the other."""

    def make_stage(self) -> Any:
        real, at_once = super().make_stage(), time.monotonic()
        step = real.step

        def slowly() -> bool:
            time.sleep(0.3 if time.monotonic() < at_once + 2 * STALL_S else 0)
            return bool(step())

        real.step = slowly
        return real


@pytest.mark.faults
@pytest.mark.usefixtures("cluster")
def test_tokens_are_progress(
    make_config: Callable[..., RunConfig], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(pools.POOLS, "coarse", Slow)
    assert run(make_config(stall_timeout_s=STALL_S, rows_per_shard=64)).failed == len(FAILED)
    assert "round ended early" not in capfd.readouterr().err


@pytest.mark.usefixtures("cluster")
def test_where_nothing_moves_the_guard_raises() -> None:
    board = Board.remote()
    operator = SimpleNamespace(metrics=SimpleNamespace(num_outputs_taken=0))
    executor = SimpleNamespace(_topology=[operator])
    guard = stall_guard(board, 1.0)()

    def step_for(seconds: float, change: Callable[[int], object]) -> None:
        for i in range(round(seconds / 0.1)):
            change(i)
            guard.on_execution_step(executor)
            time.sleep(0.1)

    step_for(2.0, lambda i: board.report.remote("fine", "actor", (0, i, i, i, 0.0)))  # tokens
    step_for(2.0, lambda i: setattr(operator.metrics, "num_outputs_taken", i))  # shards
    with pytest.raises(TimeoutError, match="no shard moved and no token was made for 1 s"):
        step_for(3.0, lambda i: board.report.remote("fine", "actor", (0, 19, 19, 19, float(i))))  # only time passes
