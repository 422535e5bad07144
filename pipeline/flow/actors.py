"""The four pools' actors: each loads its own stage once and works on several shards at a time.

A call is one shard: {shard} into the semantic pool, then schema.EDGE from pool to pool, a schema.RECEIPT at the end.
"""

import asyncio
import math
import time
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import ray
import torch

from pipeline.bark.build import BUILDERS, load_text_encoder, place
from pipeline.bark.semantic import SemanticTokens
from pipeline.bark.stage import Stage
from pipeline.config import RunConfig
from pipeline.errors import RowError
from pipeline.flow.layouts import agreed
from pipeline.flow.segments import Segment, fail, outcome, pack, segments_of, unpack, utterance_of
from pipeline.flow.worker import Worker
from pipeline.model.checkpoint import Checkpoint
from pipeline.model.hub import resolve
from pipeline.schema import EDGE, RECEIPT
from pipeline.shards.plan import read_shard
from pipeline.shards.storage import Store
from pipeline.shards.writer import write_shard

REPORT_EVERY_S = 1.0


@dataclass(frozen=True)
class Setup:
    """What the driver tells every actor."""

    config: RunConfig
    model: dict[str, str]  # columns of the output: model, model_revision, generator
    revision: str | None  # the commit that the driver resolved: all actors load the same
    board: Any  # handle of the progress board


class PoolActor:
    """What the four have in common: the stage on its thread, and reports to the driver."""

    stage_name: str

    def __init__(self, setup: Setup):
        self.setup = setup
        self.store = Store(setup.config.output, setup.config.storage_options)
        self.checkpoint = Checkpoint(resolve(setup.config.model, setup.revision))
        self.worker = Worker(self.make_stage())
        self.rows_done = 0
        self._last_report = 0.0
        self._name = ray.get_runtime_context().get_actor_id()

    def make_stage(self) -> Stage:
        """The stage on this actor's device, in the layout that the run has agreed on."""
        pool = getattr(self.setup.config.pools, self.stage_name)
        torch.set_num_threads(pool.threads or math.ceil(pool.num_cpus))
        device = pool.device if pool.device != "auto" else ("cuda" if pool.num_gpus else "cpu")
        how = {"device": device, "dtype": pool.dtype, "slots": pool.slots, "quantize": pool.quantize}
        at = place(width=self.checkpoint.width, measure=agreed(self.store), **how)
        return BUILDERS[self.stage_name](self.checkpoint, at)

    def report(self, rows: int = 0, now: bool = False) -> None:
        """Tell the board, at most once a second; nobody waits for it."""
        self.rows_done += rows
        if now or time.monotonic() - self._last_report > REPORT_EVERY_S:
            self._last_report = time.monotonic()
            stats = self.worker.stage.stats
            counts = (self.rows_done, stats.tokens, stats.busy, stats.capacity, self.worker.busy_s)
            self.setup.board.report.remote(self.stage_name, self._name, counts)

    async def each_row(self, segments: list[Segment]) -> list[tuple[Segment, Any]]:
        """All segments of a shard through the stage at once, in order; a row counts when its last one is done."""
        left: dict[int, int] = {}
        for segment in segments:
            left[segment["row"]] = left.get(segment["row"], 0) + 1

        async def one(segment: Segment) -> tuple[Segment, Any]:
            made = (segment, None) if segment.get("error_kind") else await self.through(segment)
            left[segment["row"]] -= 1
            self.report(rows=0 if left[segment["row"]] else 1)
            return made

        done = await asyncio.gather(*(one(segment) for segment in segments))
        self.report(now=True)
        return done

    async def through(self, segment: Segment) -> tuple[Segment, Any]:
        """One segment through this stage; a RowError becomes the segment's error."""
        raise NotImplementedError


class EdgeActor(PoolActor):
    """A pool between two edges: segments in, segments out."""

    before: str

    async def __call__(self, batch: pa.Table) -> pa.Table:
        (shard,), (segments,) = batch["shard"].to_pylist(), batch["segments"].to_pylist()
        return edge(shard, [segment for segment, _ in await self.each_row(segments)])

    async def through(self, segment: Segment) -> tuple[Segment, Any]:
        try:
            utterance = utterance_of(segment, self.checkpoint.folder)
        except RowError as error:
            return fail(segment, self.stage_name, error), None
        made = await self.worker.run(utterance, unpack(segment, self.before))
        if isinstance(made, RowError):
            return fail(segment, self.stage_name, made), None
        return segment | {"codes": pack(made)}, None


class Semantic(PoolActor):
    """Reads its shard's rows from the plan, splits them into segments, and speaks the first word."""

    stage_name = "semantic"

    def __init__(self, setup: Setup):
        super().__init__(setup)
        self.encoder = load_text_encoder(self.checkpoint, setup.config.tokenizer)

    async def __call__(self, batch: pa.Table) -> pa.Table:
        (shard,) = batch["shard"].to_pylist()
        loop = asyncio.get_running_loop()
        segments = await loop.run_in_executor(None, self._segments, shard)
        return edge(shard, [segment for segment, _ in await self.each_row(segments)])

    def _segments(self, shard: int) -> list[Segment]:
        rows = read_shard(self.store, shard).to_pylist()
        pairs = [pair for i, row in enumerate(rows) for pair in segments_of(i, row, self.setup.config, self.encoder)]
        return [segment | {"text": text} for segment, text in pairs]

    async def through(self, segment: Segment) -> tuple[Segment, Any]:
        text = segment.pop("text")
        try:
            utterance = utterance_of(segment, self.checkpoint.folder, self.encoder.encode(text))
        except RowError as error:
            return fail(segment, "text", error), None
        made = await self.worker.run(utterance, None)
        if not isinstance(made, SemanticTokens):
            return fail(segment, self.stage_name, made), None
        known = {"num_semantic": made.tokens.size, "stop": made.stop, "codes": pack(made.tokens)}
        return segment | known, None


class Coarse(EdgeActor):
    stage_name, before = "coarse", "semantic"


class Fine(EdgeActor):
    stage_name, before = "fine", "coarse"


class Decode(PoolActor):
    """Makes the samples, joins each row's segments, encodes, writes the part and commits it."""

    stage_name = "decode"

    async def __call__(self, batch: pa.Table) -> pa.Table:
        (shard,), (segments,) = batch["shard"].to_pylist(), batch["segments"].to_pylist()
        made = await self.each_row(segments)
        by_row: dict[int, list[tuple[Segment, Any]]] = {}
        for segment, samples in made:
            by_row.setdefault(segment["row"], []).append((segment, samples))
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(None, self._write, shard, by_row)

    async def through(self, segment: Segment) -> tuple[Segment, Any]:
        utterance = utterance_of(segment | {"voice": None}, self.checkpoint.folder)
        return segment, await self.worker.run(utterance, unpack(segment, "fine"))

    def _write(self, shard: int, by_row: dict[int, list[tuple[Segment, Any]]]) -> pa.Table:
        config = self.setup.config
        outcomes = [outcome(by_row[row], config.segments.pause_s) for row in sorted(by_row)]
        rows = read_shard(self.store, shard)
        commit = write_shard(self.store, shard, rows, outcomes, config.audio.format, self.setup.model)
        receipt = {name: getattr(commit, name) for name in RECEIPT.names}
        return pa.Table.from_pylist([receipt], schema=RECEIPT)


def edge(shard: int, segments: list[Segment]) -> pa.Table:
    return pa.Table.from_pylist([{"shard": shard, "segments": segments}], schema=EDGE)


POOLS: dict[str, type[PoolActor]] = {"semantic": Semantic, "coarse": Coarse, "fine": Fine, "decode": Decode}
