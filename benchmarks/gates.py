"""What each quality gate does for the built-in model: word error rate, rejected share, and time.

    python -m benchmarks.gates [--sentences 200]

The held-out sentences are spoken once without a gate, with token checks, with the best of three draws of tokens, and
with up to three attempts by what Whisper base hears (training/recognise.py). Whisper also measures, so the last row is
judged by its own judge. Time is that of speaking, and of the judge where the gate needs one. The last line is JSON.
"""

import argparse
import json
import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from benchmarks.quality import ROOT, whisper_folder
from pipeline.bark.semantic import as_input
from pipeline.bark.stage import Utterance, run
from pipeline.bark.synthesize import Bark
from pipeline.bark.text import spoken_chars
from pipeline.bark.voice import load_voice
from pipeline.errors import RowError
from pipeline.quality.attempts import attempt_seed
from pipeline.quality.judges.asr import Asr
from pipeline.quality.judges.clip import HeardClip
from pipeline.quality.judges.settings import AsrJudge
from pipeline.quality.settings import QualitySettings
from pipeline.sampling import Sampling
from pipeline.shards.audio import to_int16

VOICES = ("rms", "middle", "high", None)
WER = 0.25  # above this, the judge rejects a clip
ATTEMPTS = 3

Errors = tuple[int, int]  # wrong words, and words of the text
Clip = np.ndarray | None  # (N,) int16; None: no sound


def speak(
    bark: Bark,
    texts: Sequence[str],
    voices: Sequence[str | None],
    seeds: Sequence[int],
    settings: QualitySettings,
) -> tuple[list[Clip], int]:
    """The texts' clips, and how many draws of tokens there were."""
    folder = bark.checkpoint.folder
    utterances = [
        Utterance(
            seed,
            Sampling(),
            load_voice(voice, folder) if voice else None,
            bark.encoder.encode(text),
            settings.token_gate(spoken_chars(text), "en"),
        )
        for text, voice, seed in zip(texts, voices, seeds, strict=True)
    ]
    inputs: list[Any] = [None] * len(utterances)
    draws = len(utterances)
    for name, stage in bark.stages.items():
        outputs = run(stage, utterances, inputs)
        if name == "semantic":
            draws = sum(1 if isinstance(o, RowError) else max(1, len(o.draws)) for o in outputs)
            utterances = [
                Utterance(getattr(o, "seed", None) or u.seed, u.sampling, u.voice, u.text_ids)
                for o, u in zip(outputs, utterances, strict=True)
            ]
        inputs = [as_input(output) for output in outputs]
    return [None if isinstance(clip, RowError) else to_int16(clip) for clip in inputs], draws


def hear(asr: Asr, clips: Sequence[Clip], texts: Sequence[str]) -> list[Errors]:
    """Word errors of each clip."""
    found = []
    for clip, text in zip(clips, texts, strict=True):
        scores = asr.judge(HeardClip(np.zeros(0, np.int16) if clip is None else clip, text, "en", None))
        found.append((scores["word_errors"], scores["num_words"]))
    return found


def rate(errors: Sequence[Errors]) -> float:
    return sum(wrong for wrong, _ in errors) / sum(words for _, words in errors)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--sentences", type=int, default=200)
    count = parser.parse_args().sentences
    texts = (ROOT / "training" / "heldout.txt").read_text().splitlines()[:count]
    voices = [VOICES[i % len(VOICES)] for i in range(len(texts))]
    seeds = list(range(len(texts)))
    bark = Bark.load("puppy", device="cpu", dtype="float32")
    folder = whisper_folder()
    if folder is None:
        raise SystemExit("Whisper's packages are not installed: see training/recognise.py")
    asr = Asr(AsrJudge(model=folder, compute_type="int8"), "cpu", 2, 1)
    results: dict[str, dict[str, float]] = {}

    def show(name: str, errors: Sequence[Errors], draws: int, rows: int, seconds: float) -> None:
        bad = float(np.mean([wrong / words > WER for wrong, words in errors]))
        results[name] = {"wer": rate(errors), "rejected": bad, "draws": draws, "rows": rows, "seconds": seconds}
        print(
            f"{name:28} WER {rate(errors):6.1%}  above {WER:.0%}: {bad:6.1%}  draws {draws:4}  rows {rows:4}  "
            f"{seconds:6.1f} s",
            flush=True,
        )

    gates = {
        "no gate": QualitySettings(),
        "token checks": QualitySettings(semantic_attempts=ATTEMPTS),
        "best of 3 draws": QualitySettings(semantic_attempts=ATTEMPTS, choose="best"),
    }
    first: list[Errors] = []
    for name, settings in gates.items():
        start = time.perf_counter()
        clips, draws = speak(bark, texts, voices, seeds, settings)
        seconds = time.perf_counter() - start
        start = time.perf_counter()
        errors = hear(asr, clips, texts)
        heard_s = time.perf_counter() - start
        show(name, errors, draws, len(texts), seconds)
        if name == "token checks":
            first, first_s, first_draws = errors, seconds + heard_s, draws
    best, seconds, rows, draws = list(first), first_s, len(texts), first_draws
    for attempt in range(1, ATTEMPTS):
        again = [i for i, (wrong, words) in enumerate(best) if wrong / words > WER]
        if not again:
            break
        start = time.perf_counter()
        chosen = [texts[i] for i in again]
        new_seeds = [attempt_seed(seeds[i], attempt) for i in again]
        clips, more = speak(bark, chosen, [voices[i] for i in again], new_seeds, gates["token checks"])
        for i, errors_i in zip(again, hear(asr, clips, chosen), strict=True):
            best[i] = min(best[i], errors_i)
        seconds, rows, draws = seconds + time.perf_counter() - start, rows + len(again), draws + more
    show(f"and wer {WER}, {ATTEMPTS} attempts", best, draws, rows, seconds)
    print(json.dumps({name: {k: round(v, 4) for k, v in each.items()} for name, each in results.items()}))


if __name__ == "__main__":
    main()
