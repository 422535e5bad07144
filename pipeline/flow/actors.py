"""The four pools' actors: each loads its own stage once and works on several shards at a time.

A call is one shard: {shard} into the semantic pool, then schema.EDGE from pool to pool, a schema.RECEIPT at the end.
"""

import asyncio
import gc
import math
import time
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import pyarrow as pa
import ray
import torch

from pipeline.bark.build import load_text_encoder, make_execution_config
from pipeline.bark.fetch import set_fsspec_defaults
from pipeline.bark.registry import STAGES
from pipeline.bark.stage import Stage, Utterance
from pipeline.checkpoints.checkpoint import Checkpoint
from pipeline.checkpoints.hub import resolve
from pipeline.config import RunConfig
from pipeline.errors import RowError
from pipeline.flow.isolation import Isolation
from pipeline.flow.kernel_agreement import agreed
from pipeline.flow.segments import Segment, fail, outcome, pack, segments_of, unpack, utterance_of
from pipeline.flow.worker import Worker
from pipeline.schema import EDGE, RECEIPT
from pipeline.shards.audio import Clip
from pipeline.shards.plan import Plan, read_shard
from pipeline.shards.writer import write_shard
from pipeline.storage.store import Store

REPORT_EVERY_S = 1.0
GARBAGE_AFTER = 10_000  # new objects; with Python's 700 the search for cycles is a tenth of a row's cost
Made = tuple[Segment, Any]  # a segment, and its Clip where the stage is the last one


@dataclass(frozen=True)
class Setup:
    """What the driver tells every actor."""

    config: RunConfig
    plan: Plan
    model: dict[str, str]  # columns of the output: model, model_revision, generator
    revision: str | None  # the commit that the driver resolved: all actors load the same
    board: Any  # handle of the progress board


class PoolActor:
    """What the four have in common: the stage on its thread, rows that can't harm each other, reports to the driver."""

    stage_name: str
    blamed: str  # for an input that can't be used
    before: str  # the stage whose output this one gets

    @staticmethod
    def compact_output(output: Any) -> Any:
        """What is kept of an output while the rest of its shard is made."""
        return output

    def __init__(self, setup: Setup):
        gc.set_threshold(GARBAGE_AFTER)
        self.setup = setup
        self.store = Store(setup.config.output, setup.config.storage_options)
        set_fsspec_defaults((setup.config.output, setup.config.manifest), setup.config.storage_options)
        self.checkpoint = Checkpoint(resolve(setup.config.model, setup.revision))
        self.worker = Worker(self.make_stage(), self.compact_output)
        here = ray.get_runtime_context()
        self.isolation = Isolation(self.stage_name, setup.board, here.get_node_id())
        self.rows_done = self.shards_here = 0
        self._last_report = 0.0
        self._name = here.get_actor_id()

    def make_stage(self) -> Stage:
        """The stage on this actor's device, in the layout that the run has agreed on."""
        pool = self.setup.config.pools[self.stage_name]
        torch.set_num_threads(pool.threads or math.ceil(pool.num_cpus))
        how: dict[str, Any] = {
            "device": pool.resolved_device,
            "dtype": pool.dtype,
            "slots": pool.slots,
            "quantize": pool.quantize,
        }
        execution = make_execution_config(width=self.checkpoint.width, autotuner=agreed(self.store), **how)
        return STAGES[self.stage_name].build(self.checkpoint, execution)

    def report(self, rows: int = 0, now: bool = False) -> None:
        """Tell the board, at most once a second; nobody waits for it."""
        self.rows_done += rows
        if now or time.monotonic() - self._last_report > REPORT_EVERY_S:
            self._last_report = time.monotonic()
            stats = self.worker.stage.stats
            counts = (self.rows_done, stats.tokens, stats.busy, stats.capacity, self.worker.busy_s)
            self.setup.board.report.remote(self.stage_name, self._name, counts)

    async def __call__(self, batch: pa.Table) -> pa.Table:
        (shard,) = batch["shard"].to_pylist()
        reports = asyncio.create_task(self._report_on())
        self.shards_here += 1
        try:
            made = await self.isolation.serve(shard, await self.rows_of(batch), self.process_rows, self.crashed)
            return await self.finish(shard, made)
        finally:
            reports.cancel()
            self.shards_here -= 1
            self.report(now=not self.shards_here)  # it may be the last word

    async def _report_on(self) -> None:
        """While a shard is here: one row of it may take hours, and who waits must see that it moves."""
        while True:
            await asyncio.sleep(REPORT_EVERY_S)
            self.report()

    async def process_rows(self, rows: dict[int, Any]) -> list[Made]:
        """These rows of a shard through the stage at once, in order."""
        segments = await self.segments_of(rows)
        # in a thread: a voice may come from far away, and the event loop serves other shards
        inputs = await asyncio.to_thread(lambda: [[self.prepare(each) for each in row] for row in segments])
        begun = [[(each, self.worker.run(*given) if given else None) for each, given in row] for row in inputs]
        made: list[Made] = []
        for row in begun:
            made += [self.attach_output(each, await output) if output else (each, None) for each, output in row]
            self.report(rows=1)
        return made

    def prepare(self, segment: Segment) -> tuple[Segment, tuple[Utterance, Any] | None]:
        """What the stage gets of a segment; None where it has failed, here or before."""
        if segment.get("error_kind"):
            return segment, None
        try:
            return segment, self.input_of(segment)
        except RowError as error:
            return fail(segment, self.blamed, error), None

    def crashed(self, row: int, given: Any, error: RowError) -> list[Made]:
        """A row that is to blame for its process's end, as a segment with that error."""
        segment = given[0] if isinstance(given, list) else {"row": row}
        return [(fail(segment, self.stage_name, error), None)]

    async def rows_of(self, batch: pa.Table) -> dict[int, Any]:
        """What each row of the shard brings: its segments, by their number in the shard."""
        (segments,) = batch["segments"].to_pylist()
        return {row: list(group) for row, group in groupby(segments, key=lambda segment: segment["row"])}

    async def segments_of(self, rows: dict[int, Any]) -> list[list[Segment]]:
        return list(rows.values())

    def input_of(self, segment: Segment) -> tuple[Utterance, Any]:
        """What the stage gets; raises RowError."""
        return utterance_of(segment, self.checkpoint.folder), unpack(segment, self.before)

    def attach_output(self, segment: Segment, output: Any) -> Made:
        """A segment with the stage's output; a RowError becomes its error."""
        if isinstance(output, RowError):
            return fail(segment, self.stage_name, output), None
        return segment | {"codes": pack(output)}, None

    async def finish(self, shard: int, made: list[Made]) -> pa.Table:
        """What the next pool gets."""
        segments = [segment for segment, _ in made]
        return pa.Table.from_pylist([{"shard": shard, "segments": segments}], schema=EDGE)


class Semantic(PoolActor):
    """Reads its shard's rows from the plan, splits them into segments, and speaks the first word."""

    stage_name, blamed = "semantic", "text"

    def __init__(self, setup: Setup):
        super().__init__(setup)
        self.encoder = load_text_encoder(self.checkpoint, setup.config.tokenizer)

    async def rows_of(self, batch: pa.Table) -> dict[int, Any]:
        """The manifest's rows."""
        (shard,) = batch["shard"].to_pylist()
        rows = await asyncio.to_thread(read_shard, self.store, self.setup.plan, shard)
        return dict(enumerate(rows.to_pylist()))

    async def segments_of(self, rows: dict[int, Any]) -> list[list[Segment]]:
        return await asyncio.to_thread(self._split, rows)

    def _split(self, rows: dict[int, Any]) -> list[list[Segment]]:
        pairs = [segments_of(i, row, self.setup.config, self.encoder) for i, row in rows.items()]
        return [[segment | {"text": text} for segment, text in row] for row in pairs]

    def input_of(self, segment: Segment) -> tuple[Utterance, None]:
        return utterance_of(segment, self.checkpoint.folder, self.encoder.encode(segment.pop("text"))), None

    def attach_output(self, segment: Segment, output: Any) -> Made:
        if isinstance(output, RowError):
            return super().attach_output(segment, output)
        known = {"num_semantic": output.tokens.size, "stop": output.stop, "codes": pack(output.tokens)}
        return segment | known, None


class Coarse(PoolActor):
    stage_name, blamed, before = "coarse", "coarse", "semantic"


class Fine(PoolActor):
    stage_name, blamed, before = "fine", "fine", "coarse"


class Decode(PoolActor):
    """Makes the samples, joins each row's segments, encodes, writes the part and commits it."""

    stage_name, blamed, before = "decode", "decode", "fine"

    @staticmethod
    def compact_output(output: Any) -> Any:
        return Clip.of(output)  # half the memory

    def input_of(self, segment: Segment) -> tuple[Utterance, Any]:
        return super().input_of(segment | {"voice": None})

    def attach_output(self, segment: Segment, output: Any) -> Made:
        return segment, output

    async def finish(self, shard: int, made: list[Made]) -> pa.Table:
        return await asyncio.to_thread(self._write, shard, made)

    def _write(self, shard: int, made: list[Made]) -> pa.Table:
        config, plan = self.setup.config, self.setup.plan
        by_row = groupby(made, key=lambda each: each[0]["row"])
        outcomes = [outcome(list(segments), config.segments.pause_s) for _, segments in by_row]
        made.clear()  # the rows hold joined copies
        rows = read_shard(self.store, plan, shard)
        how = (config.audio.format, self.setup.model, plan.generation)
        commit, already_committed = write_shard(self.store, shard, rows, outcomes, *how)
        return pa.Table.from_pylist([vars(commit) | {"already_committed": already_committed}], schema=RECEIPT)


POOLS: dict[str, type[PoolActor]] = {"semantic": Semantic, "coarse": Coarse, "fine": Fine, "decode": Decode}
