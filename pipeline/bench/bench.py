"""`barkery bench`: the speed of every stage beside the machine's ceiling, on rows of given lengths."""

import resource
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pipeline import spec
from pipeline.bark.build import ExecutionConfig, make_execution_config
from pipeline.bark.fine import FineStage
from pipeline.bark.registry import build_stages
from pipeline.bark.semantic import SemanticStage, as_input
from pipeline.bark.stage import Stage, Utterance, run
from pipeline.bark.voice import load_voice
from pipeline.bench import operation_count
from pipeline.bench.agreement import agreement
from pipeline.bench.ceiling import Ceiling, measure
from pipeline.bench.operation_count import OperationCount
from pipeline.checkpoints.checkpoint import Checkpoint
from pipeline.checkpoints.hub import resolve
from pipeline.checkpoints.random import RandomCheckpoint, write_random_checkpoint
from pipeline.kernels.autotune import PREFILL_ROWS
from pipeline.model.codec import CodecConfig
from pipeline.sampling import Sampling

SMALL = RandomCheckpoint(n_layer=12, n_head=12, n_embd=768, codec_config=CodecConfig())  # suno/bark-small's sizes
TEXT_IDS = np.arange(40)  # any ids: the text doesn't change the cost


@dataclass(frozen=True)
class StageResult:
    """One stage's measurement over all rows."""

    stage: str
    seconds: float
    floor_s: float | None  # shortest possible time; None for the codec, whose convolutions are not counted
    flops: float
    tokens: int
    occupancy: float


def bench(
    model: str | None,
    *,
    rows: int,
    min_s: float,
    max_s: float,
    voice: str | None,
    show: Callable[[str], None],
    **how: Any,
) -> dict[str, Any]:
    """Measure and return the numbers; `show` gets each line of text for people as soon as it is known.

    Without a model, random weights in bark-small's sizes are used: speed does not depend on the weights. `how` is
    device, dtype, slots and quantize as for `Bark.load`.
    """
    with tempfile.TemporaryDirectory(prefix="barkery-bench-") as folder:
        path = resolve(model, None) if model else random_checkpoint(Path(folder) / "random")
        checkpoint = Checkpoint(path)
        execution = make_execution_config(width=checkpoint.width, **how)
        utterances = [utterance(s, voice, path) for s in np.linspace(min_s, max_s, rows)]
        near = agreement(checkpoint, execution) if how["quantize"] or execution.dtype != torch.float32 else None
        stages = build_stages(checkpoint, execution)
    ceiling = ceiling_of(stages["semantic"], execution)
    show(ceiling_text(ceiling, execution))
    measured, audio_s = run_stages(stages, utterances, ceiling, execution, show)
    if near:
        show(f"compared with float32: logit error {near.logit_error:.2%}, same likeliest token {near.same_argmax:.0%}")
    about = {"model": model or "random, bark-small's sizes", "voice": voice, "agreement": near and asdict(near)}
    numbers = report(measured, audio_s, ceiling, execution, about)
    show(
        f"{audio_s:.1f} s of audio in {numbers['seconds']:.1f} s: {numbers['times_real_time']:.2f}x real time, "
        f"{numbers['share_of_ceiling']:.0%} of the ceiling, peak memory {numbers['peak_rss_gib']:.2f} GiB"
    )
    return numbers


def random_checkpoint(folder: Path) -> Path:
    """Write a checkpoint of random weights. Another process does it, so that its memory isn't counted here."""
    with ProcessPoolExecutor(1, get_context("spawn")) as maker:
        return maker.submit(write_random_checkpoint, folder, SMALL).result()


def utterance(seconds: float, voice: str | None, folder: Path) -> Utterance:
    """A row of a given length."""
    num_semantic = round(float(seconds) * spec.SEMANTIC_RATE_HZ)
    sampling = Sampling(allow_early_stop=False, max_semantic_tokens=num_semantic)
    return Utterance(num_semantic, sampling, load_voice(voice, folder) if voice else None, TEXT_IDS)


def ceiling_of(stage: Stage, execution: ExecutionConfig) -> Ceiling:
    if not isinstance(stage, SemanticStage):
        raise TypeError(f"the ceiling is measured on the semantic stage, not on {type(stage).__name__}")
    return measure(stage.engine.model, execution.slots)  # type: ignore[arg-type]


def run_stages(
    stages: dict[str, Stage],
    utterances: Sequence[Utterance],
    ceiling: Ceiling,
    execution: ExecutionConfig,
    show: Callable[[str], None],
) -> tuple[list[StageResult], float]:
    """Run all rows through the stages, one stage after another; returns the results and the seconds of audio."""
    outputs: list[Any] = [None] * len(utterances)
    measured = []
    for name, stage in stages.items():
        start = time.perf_counter()
        outputs = run(stage, utterances, outputs)
        seconds = time.perf_counter() - start
        outputs = [as_input(output) for output in outputs]
        count, stats = count_operations(stage, execution), stage.stats
        floor_s = ceiling.seconds(count) if count.flops else None
        measured.append(StageResult(name, seconds, floor_s, count.flops, stats.tokens, stats.busy / stats.capacity))
        show(stage_text(measured[-1]))
    return measured, sum(samples.size for samples in outputs) / spec.SAMPLE_RATE


def count_operations(stage: Stage, execution: ExecutionConfig) -> OperationCount:
    """The operations that a stage has done so far."""
    if isinstance(stage, FineStage):
        one = operation_count.fine_window(stage.model.config)
        return OperationCount(prefill_flops=one.prefill_flops * stage.windows)
    engine = getattr(stage, "engine", None)
    if engine is None:
        return OperationCount()
    config, V = engine.model.config, engine.model.head_rows[1] - engine.model.head_rows[0]
    total = operation_count.steps(
        config, engine.steps, execution.slots, engine.positions_read, V, engine.cache.itemsize
    )
    for P, count in engine.prompts.items():
        total += OperationCount(prefill_flops=operation_count.prompt(config, P, V).prefill_flops * count)
    return total


def ceiling_text(ceiling: Ceiling, execution: ExecutionConfig) -> str:
    """The ceiling, and the heading of the stages' lines."""
    return (
        f"ceiling, {torch.get_num_threads()} threads, {execution.dtype}, "
        f"matmul {execution.kernels.decode} (decode), {execution.kernels.prefill} (prefill): "
        f"{ceiling.decode_flops / 1e9:.0f} GFLOP/s with {execution.slots} rows, "
        f"{ceiling.prefill_flops / 1e9:.0f} with {PREFILL_ROWS}, "
        f"memory {ceiling.read_bytes / 1e9:.1f} GB/s\n"
        f"{'stage':<10}{'seconds':>9}{'of ceiling':>12}{'GFLOP/s':>9}{'tokens/s':>10}{'slots busy':>12}"
    )


def stage_text(m: StageResult) -> str:
    """One line of the table."""
    share = f"{m.floor_s / m.seconds:.0%}" if m.floor_s else "-"
    flops = f"{m.flops / m.seconds / 1e9:.0f}" if m.flops else "-"
    return f"{m.stage:<10}{m.seconds:>9.2f}{share:>12}{flops:>9}{m.tokens / m.seconds:>10.0f}{m.occupancy:>12.0%}"


def report(
    measured: list[StageResult], audio_s: float, ceiling: Ceiling, execution: ExecutionConfig, about: dict[str, Any]
) -> dict[str, Any]:
    """All numbers, for programs."""
    total_s = sum(m.seconds for m in measured)
    counted = [m for m in measured if m.floor_s]
    share = sum(m.floor_s or 0 for m in counted) / sum(m.seconds for m in counted)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    return {
        **about,
        "threads": torch.get_num_threads(),
        "dtype": str(execution.dtype).removeprefix("torch."),
        "kernels": asdict(execution.kernels),
        "slots": execution.slots,
        "audio_s": round(audio_s, 2),
        "seconds": round(total_s, 2),
        "times_real_time": round(audio_s / total_s, 3),
        "share_of_ceiling": round(share, 3),
        "peak_rss_gib": round(peak, 2),
        "ceiling": {name: round(value / 1e9, 1) for name, value in asdict(ceiling).items()},
        "stages": {m.stage: {k: v for k, v in asdict(m).items() if k != "stage"} for m in measured},
    }
