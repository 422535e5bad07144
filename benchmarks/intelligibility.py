"""Measure a checkpoint's speech: word error rate of an independent speech recognizer, pitch, silences, speed.

Speaks the held-out sentences with every voice of the checkpoint, and without a voice, at default sampling with fixed
seeds. The recognizer is pocketsphinx (`pip install pocketsphinx scipy`), whose own errors are included: 9 % on flite's
speech of such sentences (training/README.md).

    python benchmarks/intelligibility.py CHECKPOINT [sentences a voice] [--wav FOLDER] [--state STATE]

One line of JSON a voice as it is done, then all of it as one table. --state, the folder that training kept, adds flite
as it comes, the teacher, and what the codec makes of the teacher (needs flite).
"""

import argparse
import json
import sys
import time
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "training")]

from recognise import errors, hear, words  # noqa: E402

from pipeline.bark.synthesize import Bark  # noqa: E402

RATE_HZ = 24_000


def longest_inner_silence_s(samples: np.ndarray, window_s: float = 0.02) -> float:
    """Longest stretch 40 dB below the loudest 20 ms, not counting start and end."""
    size = round(window_s * RATE_HZ)
    power = (samples[: len(samples) // size * size].reshape(-1, size) ** 2).mean(1)
    loud = np.flatnonzero(power > power.max() * 1e-4)
    return float(max(np.diff(loud).max(initial=1) - 1, 0) * window_s)


def pitch_and_centroid_hz(samples: np.ndarray) -> tuple[float, float]:
    """Median pitch of clearly periodic windows (autocorrelation, 60 to 300 Hz), and the mean spectral centroid."""
    pitches, centroids = [], []
    for start in range(0, len(samples) - 1200, 600):
        window = samples[start : start + 1200] - samples[start : start + 1200].mean()
        if window.std() < 0.02:
            continue
        spectrum = np.abs(np.fft.rfft(window * np.hanning(1200), 4096)) ** 2
        centroids.append((spectrum * np.fft.rfftfreq(4096, 1 / RATE_HZ)).sum() / spectrum.sum())
        alike = np.fft.irfft(np.abs(np.fft.rfft(window, 4096)) ** 2)[:600] / np.maximum(1200 - np.arange(600), 1)
        lags = np.arange(RATE_HZ // 300, RATE_HZ // 60)
        best = alike[lags].max()
        if best > 0.5 * alike[0]:
            pitches.append(RATE_HZ / lags[np.argmax(alike[lags] > 0.9 * best)])
    return float(np.median(pitches or [0])), float(np.mean(centroids or [0]))


def measure(bark: Bark, texts: list[str], voice: str | None, wav: Path | None) -> dict[str, float | str]:
    """One voice, all texts, as one call."""
    began = time.time()
    results = bark.generate(texts, voices=[voice] * len(texts), seeds=list(range(len(texts))))
    wall_s = time.time() - began
    wrong = said = 0
    for text, result in zip(texts, results, strict=True):
        said += len(words(text))
        wrong += errors(words(text), hear(result.audio, RATE_HZ))
    sound = [result for result in results if result.audio.size]
    pitch_hz, centroid_hz = pitch_and_centroid_hz(np.concatenate([result.audio for result in sound]))
    if wav:
        import soundfile

        wav.mkdir(parents=True, exist_ok=True)
        for i, result in enumerate(sound[:5]):
            soundfile.write(wav / f"{voice}-{i}.wav", result.audio, RATE_HZ)
    return {
        "voice": str(voice),
        "words": said,
        "word_error_rate": round(wrong / said, 3),
        "ended_share": round(sum(result.stop in {"eos", "eos_p"} for result in results) / len(results), 3),
        "longest_inner_silence_s": round(max(longest_inner_silence_s(result.audio) for result in sound), 2),
        "median_pitch_hz": round(pitch_hz, 1),
        "centroid_hz": round(centroid_hz),
        "audio_s": round(sum(result.duration_s for result in results), 1),
        "speed": f"{sum(result.duration_s for result in results) / wall_s:.2f}x",
    }


def table(made: list[dict[str, float | str]], taught: dict[str, dict[str, float]]) -> str:
    """Markdown: a column a voice; from flite to the whole way, then what else was measured."""
    rows = {
        name: [taught.get(str(m["voice"]), {}).get(name, "") for m in made] for name in next(iter(taught.values()), {})
    }
    rows["the whole way from text"] = [m["word_error_rate"] for m in made]
    rows |= {name: [m[name] for m in made] for name in made[0] if name not in {"voice", "words", "word_error_rate"}}
    lines = ["| | " + " | ".join(str(m["voice"]) for m in made) + " |", "|---|" + "---|" * len(made)]
    return "\n".join(lines + [f"| {name} | " + " | ".join(map(str, cells)) + " |" for name, cells in rows.items()])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("count", type=int, nargs="?", default=60)
    parser.add_argument("--wav", type=Path)
    parser.add_argument("--state", type=Path)
    args = parser.parse_args()
    texts = (ROOT / "training" / "heldout.txt").read_text().splitlines()[:: max(1, 60 // args.count)]
    taught: dict[str, dict[str, float]] = {}
    if args.state:
        from listen import resynthesis

        for voice, rates in resynthesis(args.state, texts):
            taught[voice] = rates
            print(json.dumps({"voice": voice, "word_error_rates": rates}), flush=True)
    bark = Bark.load(args.checkpoint, device="cpu")
    voices = [*taught] or sorted(path.stem for path in (args.checkpoint / "voices").glob("*.npz"))
    made = []
    for voice in [*voices, None]:
        made.append(measure(bark, texts, voice, args.wav))
        print(json.dumps(made[-1]), flush=True)
    print(table(made, taught))


if __name__ == "__main__":
    main()
