"""Speaks committed rows again, as their run did, from what the output has recorded: texts, voices, seeds, settings.

The stages, their adapters and their kernels are those of the pools; the rows pass one stage after the other here.
"""

from collections.abc import Sequence
from itertools import groupby
from pathlib import Path

from pipeline.bark.registry import STAGES
from pipeline.checkpoints.checkpoint import Checkpoint
from pipeline.checkpoints.hub import resolve
from pipeline.config import RunConfig, parse
from pipeline.errors import ConfigError, redact
from pipeline.flow.kernel_agreement import agreed
from pipeline.flow.planning import ModelInfo
from pipeline.flow.run_stage import run_stage
from pipeline.flow.segments import merge_segments, split_row
from pipeline.flow.stage_adapters import ActorContext, SegmentOutput
from pipeline.reproduce.find import FoundRow
from pipeline.schema import ROW_COLUMNS, SAMPLING_COLUMNS
from pipeline.shards.plan import Plan, run_file
from pipeline.shards.writer import FailedRow, WrittenRow
from pipeline.storage.store import Store


def replay(store: Store, plan: Plan, rows: Sequence[FoundRow], model: str | None) -> list[WrittenRow | FailedRow]:
    """Speak rows of one plan again, in order.

    Args:
        model: folder or hub id of the model, where it is no longer at the place that the run recorded.

    Raises:
        ConfigError: the model is missing or has other weights, or this machine can't compute as the run did.
    """
    context = recorded_context(store, plan, model)
    keys = (*ROW_COLUMNS, *SAMPLING_COLUMNS)
    own = [{key: found.row.get(key) for key in keys} for found in rows]
    split = [split_row(i, row, context.config, context.encoder) for i, row in enumerate(own)]
    outputs: list[SegmentOutput] = [(segment, None) for segments in split for segment in segments]
    for stage in STAGES.values():
        outputs, _ = run_stage(context, stage.name, outputs, agreed(store, writes=False))
    by_row = groupby(outputs, key=lambda output: output[0]["row"])
    codebooks = STAGES["decode"].codebooks_in
    return [merge_segments(list(row), context.config.segments.pause_s, codebooks) for _, row in by_row]


def recorded_context(store: Store, plan: Plan, model: str | None) -> ActorContext:
    """The settings and the model of a plan; raises ConfigError if they are not available."""
    config = recorded_config(store, plan, model)
    try:
        info = ModelInfo.check(config)
    except ConfigError as error:
        raise ConfigError(f"{error}; --model says where the model is now") from error
    now = info.identity(config)
    for key, what in (("model_revision", "weights"), ("tokenizer", "tokenizer")):
        if now.get(key) != plan.identity.get(key):
            was, is_ = plan.identity.get(key), now.get(key)
            raise ConfigError(
                f"{config.model}: its {what} differ from those that made {redact(store.url)}: {key} was {was}, "
                f"is {is_}; --model says where the old model is"
            )
    checkpoint = Checkpoint(resolve(config.model, config.revision))
    return ActorContext(config, plan, info.columns, store, checkpoint)


def recorded_config(store: Store, plan: Plan, model: str | None) -> RunConfig:
    """The settings that a plan has recorded, with the model's commit pinned."""
    if not plan.config:
        raise ConfigError(f"{redact(store.url)}/{run_file(plan.generation)}: has no settings to make rows again with")
    config = parse(dict(plan.config), f"{redact(store.url)}/{run_file(plan.generation)}")
    name = model or config.model
    if Path(name).expanduser().exists():
        name = str(Path(name).expanduser().resolve())
    revision = str(plan.identity.get("model_revision"))
    pinned = None if revision.startswith("sha256:") else revision
    location = {"output": store.url, "storage_options": store.storage_options}
    return config.model_copy(update=location | {"model": name, "revision": pinned})
