"""The registry of stages. A pool is added here: configs, the run's identity, the planner, the Ray pools, progress and
the benchmarks derive theirs from `STAGES`.

Importing this module imports no torch: `barkery --help` and the config need the names alone.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from pipeline.bark.build import ExecutionConfig
    from pipeline.bark.stage import Stage
    from pipeline.checkpoints.checkpoint import Checkpoint
    from pipeline.quality.judges.settings import JudgeSettings

Builder = Callable[["Checkpoint", "ExecutionConfig"], "Stage"]


@dataclass(frozen=True)
class StageSpec:
    """What the rest of the project needs to know of one stage."""

    name: str  # of its pool, in configs, outputs and progress
    build: Builder  # loads its part of a checkpoint
    takes: Literal["text", "codes", "samples"]
    makes: Literal["tokens", "codes", "samples", "scores"]
    codebooks_in: int  # rows of the codes that it takes
    codebooks_out: int  # rows of the codes that it makes
    is_transformer: bool  # `dtype` and `quantize` apply; the codec is always float32


def build_semantic(checkpoint: "Checkpoint", execution: "ExecutionConfig") -> "Stage":
    from pipeline.bark.build import prepare_model
    from pipeline.bark.semantic import SemanticStage

    return SemanticStage(prepare_model(checkpoint.semantic(), execution), checkpoint.vocabulary, execution.slots)


def build_coarse(checkpoint: "Checkpoint", execution: "ExecutionConfig") -> "Stage":
    from pipeline.bark.build import prepare_model
    from pipeline.bark.coarse import CoarseStage

    return CoarseStage(prepare_model(checkpoint.coarse(), execution), checkpoint.vocabulary, execution.slots)


def build_fine(checkpoint: "Checkpoint", execution: "ExecutionConfig") -> "Stage":
    from pipeline.bark.build import prepare_model
    from pipeline.bark.fine import FineStage

    return FineStage(prepare_model(checkpoint.fine(), execution))


def build_decode(checkpoint: "Checkpoint", execution: "ExecutionConfig") -> "Stage":
    from pipeline.bark.decode import DecodeStage

    return DecodeStage(checkpoint.codec(), execution.device)


STAGES: dict[str, StageSpec] = {
    stage.name: stage
    for stage in (
        StageSpec("semantic", build_semantic, "text", "tokens", codebooks_in=0, codebooks_out=1, is_transformer=True),
        StageSpec("coarse", build_coarse, "codes", "codes", codebooks_in=1, codebooks_out=2, is_transformer=True),
        StageSpec("fine", build_fine, "codes", "codes", codebooks_in=2, codebooks_out=8, is_transformer=True),
        StageSpec("decode", build_decode, "codes", "samples", codebooks_in=8, codebooks_out=0, is_transformer=False),
    )
}


JUDGE = "judge"  # the pool after the stages, in runs that have judges


def judge_stage(settings: "JudgeSettings") -> StageSpec:
    """The stage of these judges. It reads the codes, which it passes on, from the decoder's segments."""
    return StageSpec(JUDGE, partial(build_judge, settings), "samples", "scores", 8, 0, is_transformer=False)


def build_judge(settings: "JudgeSettings", checkpoint: "Checkpoint", execution: "ExecutionConfig") -> "Stage":
    from pipeline.bark.judging import make_judge_stage

    return make_judge_stage(settings, checkpoint, execution)


def stages_of(settings: "JudgeSettings") -> tuple[StageSpec, ...]:
    """The stages of a run, one pool each, in order."""
    return (*STAGES.values(), *([judge_stage(settings)] if settings.names else []))


def build_stages(checkpoint: "Checkpoint", execution: "ExecutionConfig") -> dict[str, "Stage"]:
    """All stages of a checkpoint in this process, by name, in order."""
    return {name: stage.build(checkpoint, execution) for name, stage in STAGES.items()}
