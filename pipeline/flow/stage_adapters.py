"""What differs from pool to pool: where its rows come from, how a segment becomes the stage's input and takes its
output, and where the shard goes then.

    source     first pool: the plan's rows, split into segments; other pools: the segments of the pool before
    adapter    by what the stage takes and makes (StageSpec): text to tokens, codes to codes, codes to samples, samples
               to the judges' scores
    sink       last pool: the shard is written and committed; other pools: the segments go to the next pool

All of it runs in threads beside the actor's event loop.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import groupby
from typing import Any, Protocol

import pyarrow as pa

from pipeline.bark.build import load_text_encoder
from pipeline.bark.registry import StageSpec
from pipeline.bark.stage import Utterance
from pipeline.bark.text import TextEncoder
from pipeline.checkpoints.checkpoint import Checkpoint
from pipeline.config import RunConfig
from pipeline.flow.segments import Segment, merge_segments, pack, split_row, unpack, utterance_of
from pipeline.quality.attempts import RowJudge
from pipeline.quality.judges.clip import HeardClip
from pipeline.quality.probe import Limits, group_of, write_probe
from pipeline.quality.sound import measure
from pipeline.quality.tokens import measure_tokens
from pipeline.schema import EDGE, RECEIPT
from pipeline.shards.audio import Clip, decode, encode
from pipeline.shards.plan import Plan, read_shard
from pipeline.shards.writer import FailedRow, WrittenRow, write_shard
from pipeline.storage.store import Store

Environments = Mapping[str, str]  # stage to the id of the environment that ran it
UNRECORDED: Environments = {}
SegmentOutput = tuple[Segment, Clip | None]  # a segment, and its samples, which are not part of schema.SEGMENT


@dataclass(frozen=True)
class ActorContext:
    """What the parts of one actor share."""

    config: RunConfig
    plan: Plan
    model: dict[str, str]  # columns of the output
    store: Store
    checkpoint: Checkpoint
    limits: Limits | None = None  # those of the quality gate that follow from the run's probe
    is_probe: bool = False  # measure the rows for these limits, and write nothing else

    @cached_property
    def encoder(self) -> TextEncoder:
        return load_text_encoder(self.checkpoint, self.config.tokenizer)


class Source(Protocol):
    def read(self, batch: pa.Table) -> dict[int, Any]:
        """The rows of the shard in `batch`, by their number in the shard."""

    def split(self, rows: dict[int, Any]) -> list[list[Segment]]:
        """The segments of each row."""


class Adapter(Protocol):
    input_error_stage: str  # recorded with a row whose input can't be used

    def inputs(self, segment: Segment) -> tuple[Utterance, Any]:
        """What the stage takes. Raises RowError if the segment's voice or text can't be used."""

    def compact(self, output: Any) -> Any:
        """The part of an output that is kept until its shard is finished."""

    def attach(self, segment: Segment, output: Any) -> SegmentOutput:
        """A segment with its compacted output."""


class Sink(Protocol):
    def finish(self, shard: int, outputs: list[SegmentOutput], environments: Environments = UNRECORDED) -> pa.Table:
        """What the pool returns for a shard that ran in these environments: stage to id."""


class PlanSource:
    """Rows of the plan, which become segments here."""

    def __init__(self, context: ActorContext):
        self.context = context
        self.encoder = context.encoder

    def read(self, batch: pa.Table) -> dict[int, Any]:
        (shard,) = batch["shard"].to_pylist()
        return dict(enumerate(read_shard(self.context.store, self.context.plan, shard).to_pylist()))

    def split(self, rows: dict[int, Any]) -> list[list[Segment]]:
        return [split_row(i, row, self.context.config, self.encoder) for i, row in rows.items()]


class EdgeSource:
    """Segments from the pool before."""

    def read(self, batch: pa.Table) -> dict[int, Any]:
        (segments,) = batch["segments"].to_pylist()
        return {row: list(group) for row, group in groupby(segments, key=lambda segment: segment["row"])}

    def split(self, rows: dict[int, Any]) -> list[list[Segment]]:
        return list(rows.values())


class TextToTokens:
    """The semantic stage: the text of a segment, which leaves the segment here, becomes tokens."""

    input_error_stage = "text"

    def __init__(self, context: ActorContext, stage: StageSpec):
        self.encoder = context.encoder
        self.folder = context.checkpoint.folder
        self.quality = context.config.quality
        self.has_judges = bool(context.config.judges.names)

    def inputs(self, segment: Segment) -> tuple[Utterance, Any]:
        gate = self.quality.token_gate(segment["num_chars"], segment["language"])
        utterance = utterance_of(segment, self.folder, self.encoder.encode(segment["text"]), gate)
        if not self.has_judges:
            del segment["text"], segment["language"]
        return utterance, None

    def compact(self, output: Any) -> Any:
        return output

    def attach(self, segment: Segment, output: Any) -> SegmentOutput:
        columns = {"num_semantic": output.tokens.size, "stop": output.stop, "codes": pack(output.tokens)}
        drawn = {"seed": output.seed, "draws": output.draws} if output.draws else {}
        return segment | columns | measure_tokens(output.tokens) | drawn, None


class CodesToCodes:
    """The coarse and the fine stage."""

    def __init__(self, context: ActorContext, stage: StageSpec):
        self.folder = context.checkpoint.folder
        self.codebooks = stage.codebooks_in
        self.input_error_stage = stage.name

    def inputs(self, segment: Segment) -> tuple[Utterance, Any]:
        return utterance_of(segment, self.folder), unpack(segment, self.codebooks)

    def compact(self, output: Any) -> Any:
        return output

    def attach(self, segment: Segment, output: Any) -> SegmentOutput:
        return segment | {"codes": pack(output)}, None


class CodesToSamples:
    """The codec's decoder, which needs no voice. Its samples stay beside the segment."""

    def __init__(self, context: ActorContext, stage: StageSpec):
        self.codebooks = stage.codebooks_in
        self.input_error_stage = stage.name

    def inputs(self, segment: Segment) -> tuple[Utterance, Any]:
        return utterance_of(segment | {"voice": None}), unpack(segment, self.codebooks)

    def compact(self, output: Any) -> Any:
        return Clip.of(output)  # int16: half the memory

    def attach(self, segment: Segment, output: Any) -> SegmentOutput:
        return segment, output


class SamplesToScores:
    """The judges. A segment's clip comes as FLAC and goes on as samples, beside its scores."""

    input_error_stage = "judge"

    def __init__(self, context: ActorContext, stage: StageSpec):
        pass

    def inputs(self, segment: Segment) -> tuple[Utterance, Any]:
        segment["clip"] = decode(segment["clip"])
        heard = HeardClip(segment["clip"], segment["text"], segment["language"], segment["voice"])
        return utterance_of(segment | {"voice": None}), heard

    def compact(self, output: Any) -> Any:
        return output

    def attach(self, segment: Segment, output: Any) -> SegmentOutput:
        return segment | output, Clip(segment["clip"], segment["peak"])


def measure_clips(outputs: list[SegmentOutput]) -> list[SegmentOutput]:
    """Add the measures of its sound to each segment that has one; all clips of a shard are measured together."""
    measures = iter(measure([clip.samples for _, clip in outputs if clip]))
    return [
        (segment | {"num_samples": clip.samples.size} | next(measures), clip) if clip else (segment, clip)
        for segment, clip in outputs
    ]


class EdgeSink:
    """Segments for the next pool."""

    def finish(self, shard: int, outputs: list[SegmentOutput], environments: Environments = UNRECORDED) -> pa.Table:
        edge = {"shard": shard, "segments": [with_clip(segment, clip) for segment, clip in outputs]}
        return pa.Table.from_pylist([edge | {"environments": list(environments.items())}], schema=EDGE)


def with_clip(segment: Segment, clip: Clip | None) -> Segment:
    """The segment with its sound, if it has one, as a lossless file: half the size."""
    return segment | {"clip": encode(clip.samples, "flac"), "peak": clip.peak} if clip else segment


class ShardSink:
    """Joins the segments of each row, writes the shard and commits it."""

    def __init__(self, context: ActorContext, stage: StageSpec):
        self.context = context
        self.codebooks, self.stage = stage.codebooks_in, stage.name
        quality, plan = context.config.quality, context.plan
        is_last = plan.attempt + 1 >= quality.attempts
        gate = replace(quality.gate, relative=context.limits)
        self.judge = RowJudge(gate, stage.name, is_last, quality.keep == "best", plan.remakes)

    def merge(self, outputs: list[SegmentOutput]) -> list[WrittenRow | FailedRow]:
        """Rows from measured segments."""
        config, plan = self.context.config, self.context.plan
        measured = measure_clips(outputs) if plan.has_quality else outputs
        by_row = groupby(measured, key=lambda output: output[0]["row"])
        merged = [merge_segments(list(row), config.segments.pause_s, self.codebooks, self.stage) for _, row in by_row]
        outputs.clear()  # frees the clips of single segments: the rows have joined copies
        return merged

    def finish(self, shard: int, outputs: list[SegmentOutput], environments: Environments = UNRECORDED) -> pa.Table:
        config, plan = self.context.config, self.context.plan
        merged = self.merge(outputs)
        rows = read_shard(self.context.store, plan, shard)
        if config.quality.is_on:
            planned = zip(merged, rows.to_pylist(), strict=True)
            merged = [self.judge.decide(o, row.get("attempts") or (), group_of(row)) for o, row in planned]
        how = (config.audio.format, self.context.model, plan.generation, dict(environments), plan.has_quality)
        commit, already_committed = write_shard(self.context.store, shard, rows, merged, *how)
        more = {"environments": list(commit.environments.items()), "already_committed": already_committed}
        return pa.Table.from_pylist([vars(commit) | more], schema=RECEIPT)


class ProbeSink(ShardSink):
    """Keeps the rows' measures, of which the run's relative limits are made, and nothing else."""

    def finish(self, shard: int, outputs: list[SegmentOutput], environments: Environments = UNRECORDED) -> pa.Table:
        merged = self.merge(outputs)
        rows = read_shard(self.context.store, self.context.plan, shard).to_pylist()
        spoken = [(group_of(row), o.quality) for o, row in zip(merged, rows, strict=True) if isinstance(o, WrittenRow)]
        write_probe(self.context.store, shard, [(group, quality) for group, quality in spoken if quality])
        counts = dict.fromkeys(("failed", "rejected", "kept", "num_samples"), 0) | {"written": len(rows)}
        receipt = {"shard": shard, "environments": list(environments.items()), "already_committed": False}
        return pa.Table.from_pylist([receipt | counts], schema=RECEIPT)


ADAPTERS: dict[tuple[str, str], Callable[[ActorContext, StageSpec], Adapter]] = {  # by StageSpec.takes and .makes
    ("text", "tokens"): TextToTokens,
    ("codes", "codes"): CodesToCodes,
    ("codes", "samples"): CodesToSamples,
    ("samples", "scores"): SamplesToScores,
}


def make_adapter(context: ActorContext, stage: StageSpec) -> Adapter:
    return ADAPTERS[stage.takes, stage.makes](context, stage)


def make_source(context: ActorContext, is_first: bool) -> Source:
    return PlanSource(context) if is_first else EdgeSource()


def make_sink(context: ActorContext, stage: StageSpec, is_last: bool) -> Sink:
    if not is_last:
        return EdgeSink()
    return ProbeSink(context, stage) if context.is_probe else ShardSink(context, stage)
