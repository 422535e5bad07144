"""Speak a few texts with the built-in model: `python examples/example.py [FOLDER]`. Needs no network and no GPU."""

import sys
from pathlib import Path

import soundfile

from pipeline import Bark, Sampling

TEXTS = ["The coffee is warm.", "The people at the window bought the bread."]


def main(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    bark = Bark.load("puppy", device="cpu")  # or "suno/bark-small", which is downloaded once

    # One text of any length; the same seed gives the same sound.
    samples = bark.say("Hello world, this is the bread.", voice="rms", seed=1)
    soundfile.write(folder / "hello.wav", samples, 24_000)

    # Several texts in one call, each with a voice and a seed of its own. None is no voice.
    results = bark.generate(TEXTS, voices=["high", None], seeds=[2, 3], sampling=Sampling(semantic_temperature=0.6))
    for number, result in enumerate(results):
        soundfile.write(folder / f"{number}.wav", result.audio, 24_000)
        print(f"{result.text!r}: {result.duration_s:.2f} s, seed {result.seed}, ended by {result.stop}")
    print(f"wrote {1 + len(results)} sound files into {folder}")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "out/example"))
