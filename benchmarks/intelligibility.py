"""What an independent recogniser hears of a checkpoint's speech, beside its teacher.

Speaks the held-out sentences with every voice of the checkpoint and without one, through the whole pipeline at
default sampling; sentences and seeds are fixed. Then texts of two to four of them. Whisper base listens
(training/recognise.py).

    python benchmarks/intelligibility.py CHECKPOINT [sentences a voice] [--wav FOLDER] [--state STATE] [--mos]

One line of JSON a part as it is done, then a table. --state, the folder that training kept, adds the teacher and what
the checkpoint's codec makes of the teacher's codes (needs hibari-tts); --mos an estimate of naturalness (needs
distillmos).
"""

import argparse
import json
import sys
import time
import types
from collections.abc import Sequence
from difflib import SequenceMatcher
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "training")]

from recognise import alignment, hear, words  # noqa: E402

from pipeline.bark.synthesize import Bark, Result  # noqa: E402

RATE_HZ = 24_000
LEFT_OUT = 0.4  # a sentence of which less is heard counts as left out
AFTERWARDS = 2  # words heard after the text from which on a clip counts as not ended
EVERY_MOS = 4  # clips


def texts_of(count: int) -> list[str]:
    return (ROOT / "training" / "heldout.txt").read_text().splitlines()[:count]


def joined(texts: Sequence[str], count: int) -> list[list[str]]:
    """Texts of two, three, four, two, ... of the held-out sentences."""
    found, at = [], 0
    for i in range(count):
        size = 2 + i % 3
        found.append([texts[(at + k) % len(texts)] for k in range(size)])
        at += size
    return found


def pitch_hz(samples: np.ndarray) -> float:
    """Median pitch of clearly periodic windows (autocorrelation, 60 to 400 Hz)."""
    pitches = []
    for start in range(0, len(samples) - 1200, 600):
        window = samples[start : start + 1200] - samples[start : start + 1200].mean()
        if window.std() < 0.02:
            continue
        alike = np.fft.irfft(np.abs(np.fft.rfft(window, 4096)) ** 2)[:600] / np.maximum(1200 - np.arange(600), 1)
        lags = np.arange(RATE_HZ // 400, RATE_HZ // 60)
        best = alike[lags].max()
        if best > 0.5 * alike[0]:
            pitches.append(RATE_HZ / lags[np.argmax(alike[lags] > 0.9 * best)])
    return float(np.median(pitches or [0]))


class Naturalness:
    """DistillMOS, an estimate of what listeners would say, 1 to 5."""

    def __init__(self, wanted: bool):
        self.model = None
        if wanted:
            # distillmos imports torchaudio for file helpers only
            sys.modules.setdefault("torchaudio", types.ModuleType("torchaudio"))
            import distillmos

            self.model = distillmos.ConvTransformerSQAModel().eval()

    def median(self, clips: Sequence[np.ndarray]) -> float | None:
        if self.model is None:
            return None
        import torch
        from scipy.signal import resample_poly

        with torch.inference_mode():
            scores = [
                self.model(torch.from_numpy(resample_poly(clip, 2, 3).astype(np.float32))[None]).item()
                for clip in clips[::EVERY_MOS]
                if clip.size > RATE_HZ // 2
            ]
        return round(float(np.median(scores)), 2)


def heard(name: str, texts: list[str], clips: list[np.ndarray], mos: Naturalness) -> dict[str, float | str | None]:
    """What the recogniser makes of clips."""
    wrong = said = after = 0
    for text, clip in zip(texts, clips, strict=True):
        errors, more = alignment(words(text), hear(clip, RATE_HZ) if clip.size else [])
        wrong, said, after = wrong + errors, said + len(words(text)), after + (more >= AFTERWARDS)
    sound = np.concatenate([clip for clip in clips if clip.size])
    return {
        "voice": name,
        "words": said,
        "word error rate": round(wrong / said, 3),
        "speech after the text": round(after / len(texts), 3),
        "naturalness (DistillMOS)": mos.median(clips),
        "median pitch, Hz": round(pitch_hz(sound[: 60 * RATE_HZ])),
        "speech, s": round(sound.size / RATE_HZ, 1),
    }


def spoken(bark: Bark, texts: list[str], voice: str | None) -> tuple[list[Result], float]:
    began = time.time()
    results = bark.generate(texts, voices=[voice] * len(texts), seeds=list(range(len(texts))))
    return results, time.time() - began


def measure(bark: Bark, texts: list[str], voice: str | None, mos: Naturalness, wav: Path | None) -> dict:
    """One voice, all texts, as one call."""
    results, wall_s = spoken(bark, texts, voice)
    clips = [result.audio for result in results]
    if wav:
        import soundfile

        wav.mkdir(parents=True, exist_ok=True)
        for i, clip in enumerate(clips[:8]):
            soundfile.write(wav / f"{voice}-{i}.wav", clip, RATE_HZ)
    made = heard(str(voice), texts, clips, mos)
    ended = sum(result.stop in {"eos", "eos_p"} for result in results) / len(results)
    return made | {"ended by EOS": round(ended, 3), "speed": f"{made['speech, s'] / wall_s:.1f}x"}


def measure_joined(bark: Bark, groups: list[list[str]], voice: str | None) -> dict:
    """Of texts of several sentences, each one segment where it fits: how many lack one."""
    texts = [" ".join(group) for group in groups]
    fit = [i for i, text in enumerate(texts) if len(bark.encoder.split(text)) == 1]
    results, _ = spoken(bark, [texts[i] for i in fit], voice)
    lacking = wrong = said = 0
    for i, result in zip(fit, results, strict=True):
        got = hear(result.audio, RATE_HZ)
        whole = [words(sentence) for sentence in groups[i]]
        flat = [word for sentence in whole for word in sentence]
        hit = np.zeros(len(flat), bool)
        for a, _, size in SequenceMatcher(None, flat, got, autojunk=False).get_matching_blocks():
            hit[a : a + size] = True
        ends = np.cumsum([len(sentence) for sentence in whole])
        shares = [part.mean() for part in np.split(hit, ends[:-1])]
        lacking += min(shares) < LEFT_OUT
        wrong, said = wrong + alignment(flat, got)[0], said + len(flat)
    return {
        "voice": str(voice),
        "texts of 2 to 4 sentences": len(fit),
        "with a sentence left out": round(lacking / max(1, len(fit)), 3),
        "word error rate in them": round(wrong / max(1, said), 3),
    }


def teacher(state: Path, checkpoint: Path, texts: list[str], mos: Naturalness) -> list[dict]:
    """The teacher as it comes, and its speech through the codec, by the codes that the transformers are to draw."""
    import torch
    from codebooks import VOICES, Codebooks, Speech
    from speak import Teacher

    from pipeline.checkpoints.checkpoint import Checkpoint

    taught, books, rng = Teacher(), Codebooks(state), np.random.default_rng(0)
    codec = Checkpoint(checkpoint).codec()
    made = [heard("teacher", texts, [taught.tts(text, seed=1) for text in texts], mos)]
    said = [(text, Speech(*parts)) for text in texts if (parts := taught.speak(text, books.basis))]
    for voice in VOICES:
        codes = [torch.from_numpy(books.of(speech, voice, rng)) for _, speech in said]
        clips = [codec.decode(each[None])[0].numpy() for each in codes]
        made.append(heard(f"codec, {voice}", [text for text, _ in said], clips, mos))
    return made


def table(made: list[dict]) -> str:
    """Markdown: a row a part, a column what was measured."""
    columns = list(dict.fromkeys(key for row in made for key in row))
    lines = ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
    return "\n".join(lines + ["| " + " | ".join(str(row.get(c, "")) for c in columns) + " |" for row in made])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("count", type=int, nargs="?", default=200)
    parser.add_argument("--wav", type=Path)
    parser.add_argument("--state", type=Path)
    parser.add_argument("--mos", action="store_true")
    parser.add_argument("--voices", nargs="*")
    args = parser.parse_args()
    texts, mos = texts_of(args.count), Naturalness(args.mos)
    made = teacher(args.state, args.checkpoint, texts, mos) if args.state else []
    for row in made:
        print(json.dumps(row), flush=True)
    bark = Bark.load(args.checkpoint, device="cpu")
    own = sorted(path.stem for path in (args.checkpoint / "voices").glob("*.npz"))
    spoke = []
    for voice in args.voices or [*own, None]:
        voice = None if voice == "None" else voice
        spoke.append(measure(bark, texts, voice, mos, args.wav))
        print(json.dumps(spoke[-1]), flush=True)
        spoke[-1] |= measure_joined(bark, joined(texts, max(3, args.count // 4)), voice)
        print(json.dumps(spoke[-1]), flush=True)
    print(table(made + spoke))


if __name__ == "__main__":
    main()
