"""Predict the speed of one GPU from bytes and operations: `python -m benchmarks.roofline`, in docs/speed.md.

Not measured: no GPU was available. Rates are the vendors' dense bfloat16 figures and memory bandwidths, times the share
that efficient kernels reach; each kernel of a decode step also costs its launch.
"""

from dataclasses import dataclass

import numpy as np

from pipeline import spec
from pipeline.bark.coarse import generation_task
from pipeline.bark.fine import BATCH
from pipeline.bark.stage import Utterance
from pipeline.bark.voice import HistoryPrompt, load_voice
from pipeline.bench import operation_count
from pipeline.bench.ceiling import Ceiling
from pipeline.bench.operation_count import OperationCount
from pipeline.engine.engine import DecodeResult
from pipeline.model.gpt import GPTConfig
from pipeline.sampling import Sampling

AUDIO_S = 10.0  # seconds per utterance
SLOTS = 32
ITEMSIZE = 2  # bytes of a bfloat16
REACHED_FLOPS, REACHED_BYTES = 0.5, 0.8  # share of the peak, at these shapes
KERNELS_PER_LAYER, KERNEL_S, LAUNCH_S = (
    14,
    2.5e-6,
    6e-6,
)  # seconds per kernel in a replayed graph; per kernel launched alone
SAMPLING_S = 1e-3  # launching the sampling kernels and reading the result: not in the graph
GPUS = {"A100 80 GB": (312e12, 2.0e12), "H100 SXM": (989e12, 3.35e12)}  # FLOP/s, bytes/s
SIZES = {"bark-small": (12, 768), "bark": (24, 1024)}  # layers, width


@dataclass(frozen=True)
class Predicted:
    semantic_s: float
    coarse_s: float
    fine_s: float

    @property
    def times_real_time(self) -> float:
        return AUDIO_S / (self.semantic_s + self.coarse_s + self.fine_s)


def prompts_of(voice: HistoryPrompt | None, num_semantic: int) -> list[int]:
    """Positions of the coarse prompts of one utterance: the real generation task, fed with zeros."""
    windows = generation_task(Utterance(0, Sampling(), voice), np.zeros(num_semantic, np.int64), spec.Vocabulary())
    prompts, request = [], next(windows)
    try:
        while True:
            if request.prompt is not None:
                prompts.append(len(request.prompt))
            low = request.ranges[0][0]
            request = windows.send(DecodeResult([low, low + spec.CODEBOOK_SIZE] * (request.num_steps // 2), "length"))
    except StopIteration:
        return prompts


def predict(size: str, gpu: str, voice: HistoryPrompt | None) -> Predicted:
    """Seconds of GPU time per utterance, with all slots busy."""
    layers, width = SIZES[size]
    config = GPTConfig(0, 0, layers, width // spec.HEAD_WIDTH, width)
    flops, bandwidth = GPUS[gpu]
    ceiling = Ceiling(flops * REACHED_FLOPS, flops * REACHED_FLOPS, bandwidth * REACHED_BYTES)
    start_s = KERNELS_PER_LAYER * layers * KERNEL_S + SAMPLING_S

    def step_s(positions: int, V: int) -> float:
        """One decode step of all slots; masked, so all positions of the cache are read, and every weight once."""
        count = operation_count.steps(config, 1, SLOTS, SLOTS * positions, V, ITEMSIZE)
        weights = OperationCount(read_bytes=(12 * width**2 * layers + width * V) * ITEMSIZE)
        return (
            max(ceiling.seconds(OperationCount(decode_flops=count.decode_flops)), ceiling.seconds(weights))
            + start_s
            + (count.read_bytes / ceiling.read_bytes)
        )

    num_semantic = round(AUDIO_S * spec.SEMANTIC_RATE_HZ)
    num_coarse = spec.num_coarse_steps(num_semantic)
    coarse_V = spec.NUM_COARSE_CODEBOOKS * spec.CODEBOOK_SIZE
    coarse_positions = spec.COARSE_PROMPT_LEN + spec.MAX_COARSE_HISTORY + spec.COARSE_WINDOW
    launch_s = KERNELS_PER_LAYER * layers * LAUNCH_S  # prompts and windows are not in a graph
    prompts = prompts_of(voice, num_semantic)
    prefills = sum(max(launch_s, ceiling.seconds(operation_count.prompt(config, P, coarse_V))) for P in prompts)
    vocabulary = spec.Vocabulary().semantic_vocab_size
    first = max(launch_s, ceiling.seconds(operation_count.prompt(config, spec.SEMANTIC_PROMPT_LEN, vocabulary)))
    windows = 2 if voice else 1
    return Predicted(
        semantic_s=first + num_semantic * step_s(spec.BLOCK_SIZE, vocabulary) / SLOTS,
        coarse_s=prefills + num_coarse * step_s(coarse_positions, coarse_V) / SLOTS,
        fine_s=windows * max(6 * launch_s / BATCH["cuda"], ceiling.seconds(operation_count.fine_window(config))),
    )


def main() -> None:
    print("| model | voice | GPU | semantic s | coarse s | fine s | x real time |\n|---|---|---|---|---|---|---|")
    for size in SIZES:
        for gpu in GPUS:
            for name in (None, "v2/en_speaker_6"):
                p = predict(size, gpu, load_voice(name) if name else None)
                times = f"{p.semantic_s:.3f} | {p.coarse_s:.3f} | {p.fine_s:.3f} | {p.times_real_time:.0f}"
                print(f"| {size} | {name or 'none'} | {gpu} | {times} |")


if __name__ == "__main__":
    main()
