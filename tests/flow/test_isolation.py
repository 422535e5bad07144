"""A row that kills its process, or makes it raise, fails alone and with its reason; the rest of its shard is made."""

import asyncio
import ctypes
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import ray

from pipeline.bark.registry import STAGES, StageSpec
from pipeline.config import parse
from pipeline.errors import IncompleteError
from pipeline.flow.board import Board
from pipeline.flow.driver import run, run_rounds
from pipeline.flow.isolation import FAIL_AFTER, AttemptTracker, SharedExclusiveLock
from pipeline.flow.pool_actor import ActorSetup
from pipeline.shards.plan import Plan
from pipeline.shards.reader import rows
from pipeline.storage.store import Store
from tests.flow.conftest import FAILED, ROWS, FinishedRun, MakeConfig
from tests.flow.in_process import NODE, local_board
from tests.flow.test_driver import parts

POISONED = {"greedy": ("semantic", "segfault"), "plain": ("fine", "raises"), "../escape": ("decode", "killed")}


def poisoned(stage: str, how: str, seed: int) -> StageSpec:
    """The stage, whose process ends (or whose model raises) when it gets the row with this seed."""
    spec = STAGES[stage]

    def build(checkpoint: Any, execution: Any) -> Any:
        real = spec.build(checkpoint, execution)
        submit = real.submit

        def submit_or_die(utterance: Any, x: Any, done: Any) -> None:
            if utterance.seed == seed:
                if how == "segfault":
                    ctypes.string_at(0)
                if how == "killed":
                    os.kill(os.getpid(), 9)
                raise ValueError("a bug that only this row meets")
            submit(utterance, x, done)

        real.submit = submit_or_die  # type: ignore[method-assign]
        return real

    return replace(spec, build=build)


@pytest.mark.usefixtures("cluster")
def test_only_poisoned_rows_fail(
    make_config: MakeConfig, finished: FinishedRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One row for each of three ways to end a process, each in another stage, in the first and the last shard."""
    undisturbed = {row["id"]: row for row in rows(Store(str(finished.output)))}
    for row_id, (stage, how) in POISONED.items():
        monkeypatch.setitem(STAGES, stage, poisoned(stage, how, undisturbed[row_id]["seed"]))
    config = make_config()
    summary = run(config)
    assert (summary.num_rows, summary.failed) == (len(ROWS), len(FAILED) + len(POISONED))
    failed = {row["id"]: row for row in rows(Store(config.output), kind="failures")}
    assert failed.keys() == FAILED.keys() | POISONED.keys()
    for row_id, (stage, _) in POISONED.items():
        assert (failed[row_id]["error_type"], failed[row_id]["stage"]) == ("crash", stage)
        message = f"the process of the {stage} stage ended 2 times with only this row in it"
        assert message in failed[row_id]["error_message"]
    made = {row["id"]: row for row in rows(Store(config.output))}
    assert made == {  # to the last bit, though made alone
        row_id: row for row_id, row in undisturbed.items() if row_id not in POISONED
    }
    before, after = parts(finished.output), parts(config.output)
    # a process that is killed while it writes leaves a temporary file, under a hidden name that no reader lists
    after = {name: content for name, content in after.items() if not Path(name).name.startswith(".")}
    assert {name for name in before | after if before.get(name) != after.get(name)} == {
        f"{folder}/part-0000{shard}.{'json' if folder == '_commits' else 'parquet'}"
        for folder in ("data", "failures", "_commits")
        for shard in (0, 2)
    } | {"README.md"}  # the card counts the failures


async def let_others_run() -> None:
    """Every task that can go on does, until it waits."""
    for _ in range(20):
        await asyncio.sleep(0)


def test_lock_admits_many_or_one_alone() -> None:
    async def scene() -> list[str]:
        lock, seen, may_leave = SharedExclusiveLock(), [], asyncio.Event()

        async def enter(name: str, alone: bool) -> None:
            async with lock.enter(alone):
                assert not alone or lock.inside == 1
                seen.append(name)
                await may_leave.wait()
                await let_others_run()
                assert not alone or lock.inside == 1

        first = [asyncio.create_task(enter(f"many {i}", False)) for i in range(3)]
        await let_others_run()
        assert lock.inside == 3
        rest = [asyncio.create_task(enter(*who)) for who in (("alone 1", True), ("late", False), ("alone 2", True))]
        await let_others_run()
        assert lock.inside == 3
        may_leave.set()
        await asyncio.wait_for(asyncio.gather(*first, *rest), 60)
        return seen

    assert asyncio.run(scene()) == ["many 0", "many 1", "many 2", "alone 1", "alone 2", "late"]


@pytest.mark.usefixtures("in_process")
@pytest.mark.parametrize("finds_it", [True, False])
def test_rounds_that_find_a_culprit_are_not_idle(
    finds_it: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Three rows of one shard that raise: ten rounds without a commit, four for the first and three for each other."""
    board, ended = local_board(), []

    def run_round(shards: list[int], setup: Any, tally: Any, plans: Any) -> Exception | None:
        ended.append(shards)
        row, round_of_row = divmod(len(ended) - 2, 3)
        if finds_it and round_of_row == 2:
            for _ in range(FAIL_AFTER):
                board.begin.remote(("semantic", 0, row), NODE)
        if len(ended) == 11:
            store.create("_commits/part-00000.json", b"{}")
            return None
        return TimeoutError("no shard moved")

    monkeypatch.setattr("pipeline.flow.driver.run_round", run_round)
    store, plan = Store(str(tmp_path)), Plan({}, 3, 4)
    config = parse({"model": "m", "manifest": "a", "output": "b"}, "test")
    setup = ActorSetup(config, plan, {"model": "m"}, None, tuple(STAGES.values()), board)
    if finds_it:
        run_rounds([plan], [0], store, setup)
        assert len(ended) == 11
    else:
        with pytest.raises(IncompleteError, match="nothing more gets committed: no shard moved"):
            run_rounds([plan], [0], store, setup)
        assert len(ended) == 5


def test_attempts_without_an_end_are_counted() -> None:
    tracker, key = AttemptTracker(), ("fine", 3, -1)
    assert [tracker.begin(key, "a node") for _ in range(2)] == [0, 1]
    tracker.begin(("fine", 3, 0), "a node")
    assert [tracker.begin(key, "a node", at_most=2) for _ in range(2)] == [2, 2]  # counted, but not begun again
    tracker.end(key)
    assert (tracker.begin(key, "a node", at_most=2), tracker.begin(("fine", 3, 0), "a node")) == (0, 1)


@pytest.mark.usefixtures("cluster")
def test_attempts_on_a_lost_node_do_not_count() -> None:
    board, key, here = Board.remote(), ("fine", 3, 0), ray.get_runtime_context().get_node_id()
    for node in ("a node that is gone", here, "another one"):
        ray.get(board.begin.remote(key, node))
    assert ray.get(board.begin.remote(key, here, at_most=1)) == 1
