"""A row that kills its process, or makes it raise, fails alone and with its reason; the rest of its shard is spoken."""

import asyncio
import ctypes
import os
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import ray

from pipeline.config import RunConfig
from pipeline.errors import IncompleteError
from pipeline.flow import pools
from pipeline.flow.actors import POOLS
from pipeline.flow.driver import rounds, run
from pipeline.flow.isolation import FAIL_AFTER, AttemptTracker, SharedExclusiveLock
from pipeline.flow.progress import Board
from pipeline.shards.plan import Plan
from pipeline.shards.reader import rows
from pipeline.storage.store import Store
from tests.flow.conftest import FAILED, ROWS
from tests.flow.test_driver import parts

MakeConfig = Callable[..., RunConfig]
POISON = "greedy"  # its seed is in all stages; no other row has temperature 0


def poisoned(stage: str, how: str) -> type:
    """The stage's actor, whose process ends (or whose model raises) when it meets the poisoned row."""

    class Poisoned(POOLS[stage]):  # type: ignore[misc]
        def make_stage(self) -> Any:
            real = super().make_stage()
            submit = real.submit

            def bitten(utterance: Any, x: Any, done: Any) -> None:
                if utterance.sampling.semantic_temperature == 0:
                    if how == "segfault":
                        ctypes.string_at(0)
                    if how == "killed":
                        os.kill(os.getpid(), 9)
                    raise ValueError("a bug that only this row meets")
                submit(utterance, x, done)

            real.submit = bitten
            return real

    Poisoned.__name__ = f"Poisoned{stage.capitalize()}"
    return Poisoned


@pytest.mark.usefixtures("cluster")
@pytest.mark.parametrize(("stage", "how"), [("semantic", "segfault"), ("fine", "raises"), ("decode", "killed")])
def test_only_the_poisoned_row_fails(
    make_config: MakeConfig,
    monkeypatch: pytest.MonkeyPatch,
    stage: str,
    how: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    undisturbed = make_config(output=str(tmp_path_factory.getbasetemp() / "undisturbed"))
    run(undisturbed)  # the first time; later it has nothing to do
    monkeypatch.setitem(pools.POOLS, stage, poisoned(stage, how))
    config = make_config()
    summary = run(config)
    assert (summary.num_rows, summary.failed) == (len(ROWS), len(FAILED) + 1)
    failed = {row["id"]: row for row in rows(Store(config.output), kind="failures")}
    assert failed[POISON]["error_type"] == "crash" and failed[POISON]["stage"] == stage
    assert f"the process of the {stage} stage ended 2 times with only this row in it" in failed[POISON]["error_message"]
    spoken = {row["id"]: row for row in rows(Store(config.output))}
    for row in rows(Store(undisturbed.output)):
        assert row["id"] == POISON or row == spoken[row["id"]]  # to the last bit, though served alone
    whole, bitten = parts(undisturbed.output), parts(config.output)
    assert {name for name in whole if whole[name] != bitten.get(name)} == {
        "data/part-00002.parquet",
        "failures/part-00002.parquet",
        "_commits/part-00002.json",
    }


def test_the_gate_lets_many_in_or_one_alone() -> None:
    async def scene() -> list[str]:
        gate, seen = SharedExclusiveLock(), []

        async def enter(name: str, alone: bool) -> None:
            async with gate.enter(alone):
                assert not alone or gate.inside == 1
                seen.append(name)
                await asyncio.sleep(0.02)
                assert not alone or gate.inside == 1

        first = [asyncio.create_task(enter(f"many {i}", False)) for i in range(3)]
        await asyncio.sleep(0.005)
        rest = [asyncio.create_task(enter(*who)) for who in (("alone 1", True), ("late", False), ("alone 2", True))]
        await asyncio.wait_for(asyncio.gather(*first, *rest), 5)
        return seen

    assert asyncio.run(scene()) == ["many 0", "many 1", "many 2", "alone 1", "alone 2", "late"]


@pytest.mark.usefixtures("cluster")
@pytest.mark.parametrize("finds_it", [True, False])
def test_rounds_that_find_a_culprit_are_not_idle(
    finds_it: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Three rows of one shard that raise: ten rounds without a commit, four for the first and three for each other."""
    board, ended, here = Board.remote(), [], ray.get_runtime_context().get_node_id()

    def run_round(shards: list[int], setup: Any, tally: Any) -> Exception | None:
        ended.append(shards)
        row, round_of_row = divmod(len(ended) - 2, 3)
        if finds_it and round_of_row == 2:
            for _ in range(FAIL_AFTER):
                board.begin.remote(("semantic", 0, row), here)
        if len(ended) == 11:
            store.create("_commits/part-00000.json", b"{}")
            return None
        return TimeoutError("no shard moved")

    monkeypatch.setattr("pipeline.flow.driver.run_round", run_round)
    store, plan = Store(str(tmp_path)), Plan({}, 3, 4)
    if finds_it:
        rounds(plan, [0], store, SimpleNamespace(board=board))  # type: ignore[arg-type]
        assert len(ended) == 11
    else:
        with pytest.raises(IncompleteError, match="nothing more gets committed: no shard moved"):
            rounds(plan, [0], store, SimpleNamespace(board=board))  # type: ignore[arg-type]
        assert len(ended) == 5


def test_what_did_not_end_is_counted() -> None:
    unended, work = AttemptTracker(), ("fine", 3, -1)
    assert [unended.begin(work, "a node") for _ in range(2)] == [0, 1]
    unended.begin(("fine", 3, 0), "a node")
    assert [unended.begin(work, "a node", at_most=2) for _ in range(2)] == [2, 2]  # asked, but not begun
    unended.end(work)
    assert (unended.begin(work, "a node", at_most=2), unended.begin(("fine", 3, 0), "a node")) == (0, 1)


@pytest.mark.usefixtures("cluster")
def test_what_died_with_its_machine_is_not_held_against_a_row() -> None:
    board, work, here = Board.remote(), ("fine", 3, 0), ray.get_runtime_context().get_node_id()
    for node in ("a machine that has gone", here, "another one"):
        ray.get(board.begin.remote(work, node))
    assert ray.get(board.begin.remote(work, here, at_most=1)) == 1
