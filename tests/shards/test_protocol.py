"""Checks the commit protocol against a model of what readers may see: plan, write, crash, resume, retry, in any order.

A crash ends a writer before or after any object that it writes. Two writers of the same shard may alternate. Readers read
after every step.
"""

import os
import shutil
import tempfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from pipeline.errors import RowError
from pipeline.shards.audio import to_int16
from pipeline.shards.generations import failed_rows
from pipeline.shards.plan import Plan, open_plans, planned_shards, read_shard, write_plan
from pipeline.shards.reader import commits, committed_shards, count_rows, rows
from pipeline.shards.verify import verify
from pipeline.shards.writer import FailedRow, WrittenRow, write_shard
from pipeline.storage.store import Store

MODEL = {"model": "m", "model_revision": "r", "generator": "g"}
IDENTITY = {"model": "m", "model_revision": "r"}


class Crash(BaseException):
    """The process ended: no code may catch this or run after it."""


class CrashingStore(Store):
    """A store whose process crashes before or right after its n-th write."""

    def crash_at(self, write: int | None, after: bool) -> "CrashingStore":
        object.__setattr__(self, "crash_point", [write, after])
        return self

    def _crash(self, after: bool) -> None:
        left, when = self.crash_point
        if left is not None and when == after:
            if left == 0:
                raise Crash
            self.crash_point[0] -= 1

    def put(self, name: str, content: bytes) -> None:
        self._crash(after=False)
        super().put(name, content)
        self._crash(after=True)

    def create(self, name: str, content: bytes) -> bool:
        self._crash(after=False)
        made = super().create(name, content)
        self._crash(after=True)
        return made


MEMORY = (
    "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
)  # fast: crashes are simulated, so nothing need reach a disk
CRASHES = st.tuples(st.none() | st.integers(0, 3), st.booleans())  # at which write, and whether after it


class Protocol(RuleBasedStateMachine):
    """`fails` decides which rows fail in which generation, so that a shard's outcomes depend on its plan alone, as in a run."""

    @initialize(num_rows=st.integers(1, 9), per_shard=st.integers(1, 4), fails=st.integers(0, 2**9 - 1))
    def begin(self, num_rows: int, per_shard: int, fails: int) -> None:
        self.folder = tempfile.mkdtemp(dir=MEMORY)
        self.ids = [f"row {i}" for i in range(num_rows)]
        self.per_shard, self.fails = per_shard, fails
        self.seen: dict[str, bytes] = {}  # every committed row that a reader has seen

    def store(self, crash: tuple[int | None, bool] = (None, True)) -> CrashingStore:
        return CrashingStore(str(Path(self.folder, "out"))).crash_at(*crash)

    @property
    def plans(self) -> list[Plan]:
        return open_plans(self.store())

    def outcome(self, row_id: str, generation: int) -> WrittenRow | FailedRow:
        index = self.ids.index(row_id)
        if self.fails >> index & 1 and generation < 1 + index % 3:  # some fail once, some twice, some three times
            return FailedRow(index, "text", RowError("empty_text", "no words"))
        samples = np.sin(np.arange(320 + index) / (9 + generation), dtype=np.float32)
        sampling = dict.fromkeys(("semantic_temperature", "coarse_temperature", "fine_temperature"), 0.5)
        return WrittenRow(
            to_int16(samples), 0.5, index, sampling, num_segments=1, num_semantic_tokens=1, num_frames=1, stop="eos"
        )

    @precondition(lambda self: not self.plans)
    @rule(crash=CRASHES)
    def plan(self, crash: tuple[int | None, bool]) -> None:
        table = pa.table({"id": self.ids, "text": ["words"] * len(self.ids)})
        try:
            write_plan(self.store(crash), Plan(IDENTITY, len(self.ids), self.per_shard), iter([table]), {})
        except Crash:
            pass

    @precondition(lambda self: self.plans)
    @rule(crash=CRASHES, pick=st.integers(0, 8))
    def work_on_a_shard(self, crash: tuple[int | None, bool], pick: int) -> None:
        """Write a shard, committed or not: a retry by Ray or a second driver may write a shard that exists."""
        plan = self.plans[-1]
        shard = plan.shards[pick % plan.num_shards]
        table = read_shard(self.store(), plan, shard)
        outcomes = [self.outcome(row_id, plan.generation) for row_id in table["id"].to_pylist()]
        try:
            write_shard(self.store(crash), shard, table, outcomes, "flac", MODEL, plan.generation)
        except Crash:
            pass

    @precondition(lambda self: self.plans)
    @rule()
    def resume(self) -> None:
        """Write all missing shards without a crash."""
        plan = self.plans[-1]
        for shard in sorted(set(plan.shards) - committed_shards(self.store())):
            self.work_on_a_shard((None, True), shard - plan.first_shard)
        now = count_rows(self.plans, commits(self.store()))
        assert now.to_go == 0 and now.written + now.failed == len(self.ids)
        assert not verify(self.store()).problems  # a crash has left no files

    @precondition(lambda self: self.plans and count_rows(self.plans, commits(self.store())).to_go == 0)
    @rule(crash=CRASHES)
    def retry(self, crash: tuple[int | None, bool]) -> None:
        last, committed = self.plans[-1], commits(self.store())
        now = count_rows(self.plans, committed)
        if not now.failed:
            return
        plan = Plan(IDENTITY, now.failed, last.rows_per_shard, last.generation + 1, last.shards.stop)
        try:
            write_plan(self.store(crash), plan, failed_rows(self.store(), self.plans, committed), {})
        except Crash:
            pass

    @invariant()
    def readers_see_every_committed_row_once_and_unchanged(self) -> None:
        if not hasattr(self, "folder"):
            return
        found = {}
        for row in rows(self.store()):
            assert row["id"] not in found, "a row is there twice"
            found[row["id"]] = row["audio"]["bytes"]
        assert all(found.get(row_id) == content for row_id, content in self.seen.items()), "a committed row changed"
        self.seen = found

    @invariant()
    def counts_and_parts_agree(self) -> None:
        if not hasattr(self, "folder") or not self.plans:
            return
        now = count_rows(self.plans, commits(self.store()))
        assert 0 <= now.to_go <= len(self.ids)
        assert all("belongs to no commit" in problem for problem in verify(self.store()).problems)
        planned = [i for table in planned_shards(self.store(), self.plans[-1]) for i in table["id"].to_pylist()]
        assert len(planned) == len(set(planned)) and set(planned) <= set(self.ids)

    def teardown(self) -> None:
        if hasattr(self, "folder"):
            shutil.rmtree(self.folder)


TestProtocol = pytest.mark.slow(Protocol.TestCase)
TestProtocol.settings = settings(
    max_examples=60, stateful_step_count=15, deadline=None, suppress_health_check=list(HealthCheck)
)
