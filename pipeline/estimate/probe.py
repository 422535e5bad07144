"""Speaks a few rows and measures: how long they sound, and how long each stage takes with an actor's resources."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import groupby

import numpy as np

from pipeline.bark.build import autotune_once
from pipeline.bark.registry import STAGES
from pipeline.checkpoints.checkpoint import Checkpoint
from pipeline.checkpoints.hub import resolve
from pipeline.config import RunConfig
from pipeline.estimate.look import Look, RowLook
from pipeline.flow.planning import ModelInfo
from pipeline.flow.run_stage import run_stage
from pipeline.flow.segments import merge_segments
from pipeline.flow.stage_adapters import ActorContext, SegmentOutput, measure_clips
from pipeline.flow.tasks import run_tasks
from pipeline.quality.attempts import RowJudge
from pipeline.shards.plan import Plan
from pipeline.shards.writer import FailedRow, WrittenRow
from pipeline.spec import SAMPLE_RATE
from pipeline.storage.store import Store


@dataclass
class Probe:
    """What was measured."""

    rows: list[RowLook]  # that became audio
    durations: list[float] = field(default_factory=list)  # seconds of each of them
    failed: int = 0  # while they were spoken
    rejected: int = 0  # by the quality gate
    stage_s: dict[str, float] = field(default_factory=dict)  # seconds of one actor for all rows, with full slots

    @property
    def audio_s(self) -> float:
        return float(sum(self.durations))


def choose_rows(look: Look, count: int) -> list[RowLook]:
    """Rows whose lengths are those of the manifest: the middles of `count` equal parts, ordered by length."""
    ordered = sorted(look.rows, key=lambda each: (each.characters, str(each.row["id"])))
    places = (np.arange(count) + 0.5) * len(ordered) / count
    return [ordered[int(place)] for place in places] if len(ordered) > count else ordered


def speak(config: RunConfig, model: ModelInfo, rows: Sequence[RowLook], address: str | None) -> Probe:
    """Run rows through the stages, one after the other; on a cluster, each stage where its pool's resources are."""
    outputs: list[SegmentOutput] = []
    for number, each in enumerate(rows):
        outputs += [(dict(segment) | {"row": number}, None) for segment in each.segments]
    probe = Probe([])
    for name in STAGES:
        task = partial(time_stage, config, model, name)
        pool = config.pools[name]
        resources = {"num_cpus": pool.num_cpus, "num_gpus": pool.num_gpus}
        ((outputs, seconds),) = run_tasks(task, [outputs], address=address, on_ray=address is not None, **resources)
        probe.stage_s[name] = seconds
    measured = measure_clips(outputs)
    judge = RowJudge(config.quality.gate, "decode", is_last=False, keeps_best=False, remakes=False)
    codebooks = STAGES["decode"].codebooks_in
    for number, group in groupby(measured, key=lambda output: output[0]["row"]):
        outcome = merge_segments(list(group), config.segments.pause_s, codebooks)
        probe.failed += isinstance(outcome, FailedRow)
        if isinstance(outcome, WrittenRow):
            probe.rows.append(rows[number])
            probe.durations.append(outcome.samples.size / SAMPLE_RATE)
            if config.quality.is_on:
                probe.rejected += isinstance(judge.decide(outcome, ()), FailedRow)
    return probe


def time_stage(
    config: RunConfig, model: ModelInfo, name: str, before: list[SegmentOutput]
) -> tuple[list[SegmentOutput], float]:
    """Run all segments through one stage, wherever this is called."""
    return run_stage(context_of(config, model), name, before, autotune_once)


def context_of(config: RunConfig, model: ModelInfo) -> ActorContext:
    """What the stages' adapters need; nothing is written with it."""
    checkpoint = Checkpoint(resolve(config.model, model.commit or config.revision))
    plan = Plan(model.identity(config), 1, 1)
    return ActorContext(config, plan, model.columns, Store(config.output, config.storage_options), checkpoint)
