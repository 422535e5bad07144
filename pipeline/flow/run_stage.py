"""Runs segments through one stage in this process, with the pools' own adapters, without a pool."""

import time

from pipeline.bark.build import Autotuner
from pipeline.bark.registry import STAGES
from pipeline.bark.stage import run
from pipeline.errors import RowError
from pipeline.flow.pool_actor import load_stage
from pipeline.flow.segments import fail
from pipeline.flow.stage_adapters import ActorContext, SegmentOutput, make_adapter


def run_stage(
    context: ActorContext, name: str, before: list[SegmentOutput], autotuner: Autotuner
) -> tuple[list[SegmentOutput], float]:
    """Load one stage and run all segments through it; a segment that has failed passes unchanged.

    Returns:
        The segments in order, with the stage's outputs; and the seconds that the model would take with full slots: a
        step takes as long whether its slots are full or not, so the time is scaled by how full they were.
    """
    stage = STAGES[name]
    loaded = load_stage(context, stage, autotuner)
    adapter = make_adapter(context, stage)
    after, utterances, inputs, places = list(before), [], [], []
    for place, (segment, _) in enumerate(before):
        if segment.get("error_kind"):
            continue
        try:
            utterance, x = adapter.inputs(segment)
        except RowError as error:
            after[place] = (fail(segment, adapter.input_error_stage, error), None)
            continue
        utterances.append(utterance)
        inputs.append(x)
        places.append(place)
    start = time.perf_counter()
    outputs = run(loaded, utterances, inputs)
    seconds = time.perf_counter() - start
    for place, output in zip(places, outputs, strict=True):
        segment = before[place][0]
        if isinstance(output, RowError):
            after[place] = (fail(segment, name, output), None)
        else:
            after[place] = adapter.attach(segment, adapter.compact(output))
    stats = loaded.stats
    return after, seconds * stats.busy / max(1, stats.capacity)
