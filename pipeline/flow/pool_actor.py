"""The actor of all pools: it loads one stage and serves several shards at a time.

A call is one shard: schema.SHARD into the first pool, schema.EDGE between pools, a schema.RECEIPT out of the last one.
What differs from stage to stage is in `stage_adapters.py`.
"""

import asyncio
import gc
import math
import time
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import ray
import torch

from pipeline.bark.build import Autotuner, make_execution_config
from pipeline.bark.fetch import set_fsspec_defaults
from pipeline.bark.registry import StageSpec
from pipeline.bark.stage import Stage, Utterance
from pipeline.checkpoints.checkpoint import Checkpoint
from pipeline.checkpoints.hub import resolve
from pipeline.config import PoolConfig, RunConfig
from pipeline.errors import RowError
from pipeline.flow.counts import RowsInWork, StageCounts
from pipeline.flow.isolation import Isolation
from pipeline.flow.kernel_agreement import agreed
from pipeline.flow.segments import Segment, fail
from pipeline.flow.stage_adapters import ActorContext, SegmentOutput, make_adapter, make_sink, make_source
from pipeline.flow.worker import Future, Worker
from pipeline.log import LogFormat, configure
from pipeline.quality.probe import Limits
from pipeline.shards.environment import current_environment, save_environment
from pipeline.shards.plan import Plan
from pipeline.storage.store import Store

REPORT_EVERY_S = 1.0
GC_THRESHOLD = 10_000  # new objects; with Python's 700 the search for cycles takes a tenth of a row's time


@dataclass(frozen=True)
class ActorSetup:
    """What the driver passes to every actor."""

    config: RunConfig
    plan: Plan
    model: dict[str, str]  # columns of the output: model, model_revision, generator
    revision: str | None  # the hub commit that the driver resolved, so that all actors load the same weights
    stages: tuple[StageSpec, ...]  # of all pools, in order
    board: Any  # handle of the progress board
    log_format: LogFormat = "text"
    limits: Limits | None = None  # as in ActorContext, like the next
    is_probe: bool = False


def gpu_name(pool: PoolConfig) -> str | None:
    """The name of the GPU that an actor of this pool computes on; None for a CPU."""
    device = torch.device(pool.resolved_device)
    return torch.cuda.get_device_name(device) if device.type == "cuda" else None


def load_stage(context: ActorContext, stage: StageSpec, autotuner: Autotuner) -> Stage:
    """A stage as its pool's settings say, on this process's device and with that many threads."""
    pool = context.config.pools[stage.name]
    torch.set_num_threads(pool.threads or math.ceil(pool.num_cpus))
    execution = make_execution_config(
        device=pool.resolved_device,
        dtype=pool.dtype,
        slots=pool.slots,
        quantize=pool.quantize,
        width=context.checkpoint.width,
        autotuner=autotuner,
    )
    return stage.build(context.checkpoint, execution)


class PoolActor:
    """One stage on its own thread, with row isolation and progress reports to the board."""

    def __init__(self, setup: ActorSetup, stage: StageSpec):
        gc.set_threshold(GC_THRESHOLD)
        configure(setup.log_format)
        config = setup.config
        self.setup = setup
        self.stage = stage
        store = Store(config.output, config.storage_options)
        set_fsspec_defaults((config.output, config.manifest), config.storage_options)
        checkpoint = Checkpoint(resolve(config.model, setup.revision))
        limits = (setup.limits, setup.is_probe)
        context = ActorContext(config, setup.plan, setup.model, store, checkpoint, *limits)
        self.source = make_source(context, is_first=stage.name == setup.stages[0].name)
        self.adapter = make_adapter(context, stage)
        self.sink = make_sink(context, stage, is_last=stage.name == setup.stages[-1].name)
        self.worker = Worker(load_stage(context, stage, agreed(store)), self.adapter.compact)
        self.environment_id = save_environment(store, current_environment(gpu_name(config.pools[stage.name])))
        here = ray.get_runtime_context()
        self.isolation = Isolation(stage.name, setup.board, here.get_node_id())
        self.progress = RowsInWork()
        self.shards_here = 0
        self._last_report = 0.0
        self._actor_id = here.get_actor_id()
        self.report(now=True)  # the driver counts the actors that are ready

    async def __call__(self, batch: pa.Table) -> pa.Table:
        (shard,) = batch["shard"].to_pylist()
        reports = asyncio.create_task(self._report_regularly())
        self.shards_here += 1
        try:
            rows = await asyncio.to_thread(self.source.read, batch)
            outputs = await self.isolation.serve(shard, rows, self.process_rows, self.fail_row)
            before = dict(batch["environments"][0].as_py()) if "environments" in batch.column_names else {}
            environments = before | {self.stage.name: self.environment_id}
            return await asyncio.to_thread(self.sink.finish, shard, outputs, environments)
        finally:
            reports.cancel()
            self.shards_here -= 1
            self.report(now=not self.shards_here)  # it may be the last report

    async def process_rows(self, rows: dict[int, Any]) -> list[SegmentOutput]:
        """Run these rows of a shard through the stage side by side; the outputs in the order of the rows."""
        # in a thread: a voice may be fetched over the network, and the event loop serves other shards
        prepared = await asyncio.to_thread(self._prepare, rows)
        self.progress.start([len(row) for row in prepared])
        started = [[(segment, self._submit(inputs)) for segment, inputs in row] for row in prepared]
        outputs: list[SegmentOutput] = []
        for row in started:
            outputs += [self._attach(segment, await output) if output else (segment, None) for segment, output in row]
            self.progress.finish_row(len(row))
            self.report()
        return outputs

    def _prepare(self, rows: dict[int, Any]) -> list[list[tuple[Segment, tuple[Utterance, Any] | None]]]:
        return [[self._inputs(segment) for segment in row] for row in self.source.split(rows)]

    def _inputs(self, segment: Segment) -> tuple[Segment, tuple[Utterance, Any] | None]:
        """A segment with the stage's inputs; None if the segment has failed, here or in a pool before."""
        if segment.get("error_kind"):
            return segment, None
        try:
            return segment, self.adapter.inputs(segment)
        except RowError as error:
            return fail(segment, self.adapter.input_error_stage, error), None

    def _submit(self, inputs: tuple[Utterance, Any] | None) -> Future | None:
        if inputs is None:
            self.progress.segment_done()
            return None
        output = self.worker.run(*inputs)
        output.add_done_callback(lambda _: self.progress.segment_done())
        return output

    def _attach(self, segment: Segment, output: Any) -> SegmentOutput:
        if isinstance(output, RowError):
            return fail(segment, self.stage.name, output), None
        return self.adapter.attach(segment, output)

    def fail_row(self, row: int, source: Any, error: RowError) -> list[SegmentOutput]:
        """The output of a row that ended its process: one segment with that error."""
        segment = source[0] if isinstance(source, list) else {"row": row}
        return [(fail(segment, self.stage.name, error), None)]

    def report(self, now: bool = False) -> None:
        """Send this actor's counts to the board, at most once a second, without waiting for an answer."""
        if now or time.monotonic() - self._last_report > REPORT_EVERY_S:
            self._last_report = time.monotonic()
            stats = self.worker.stage.stats
            counts = StageCounts(
                actors=1,
                rows=self.progress.rows_done,
                rows_in_work=self.progress.rows_in_work(stats.partial),
                tokens=stats.tokens,
                busy=stats.busy,
                capacity=stats.capacity,
                busy_s=self.worker.busy_s,
            )
            self.setup.board.report.remote(self.stage.name, self._actor_id, counts)

    async def _report_regularly(self) -> None:
        """While a shard is here: one row of it may take hours, and the stall guard must see that it moves."""
        while True:
            await asyncio.sleep(REPORT_EVERY_S)
            self.report()
