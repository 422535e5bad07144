"""Word error rate of the teacher and of the codec on the held-out sentences, beside flite's own natural voices.

python training/listen.py STATE_DIR [sentences a voice]
"""

import pathlib
import subprocess
import sys
import tempfile
from collections.abc import Iterator

import numpy as np
import soundfile
import torch
import vocoder
from codebooks import Codebooks, classes
from recognise import errors, hear, words
from speak import utterance
from train_decoder import build

HELD_OUT = pathlib.Path(__file__).parent / "heldout.txt"


def natural(text: str, voice: str) -> np.ndarray:
    """flite as it comes, with its own intonation, 16 kHz."""
    with tempfile.NamedTemporaryFile(suffix=".wav") as file:
        subprocess.run(["flite", "-voice", voice, "-t", text, "-o", file.name], check=True)
        return soundfile.read(file.name)[0]


@torch.no_grad()
def resynthesis(state: pathlib.Path, texts: list[str]) -> Iterator[tuple[str, dict[str, float]]]:
    """Each voice, and the word error rates of what its teacher and its codec make of the texts."""
    torch.set_num_threads(1)
    books, decoder, rng = Codebooks(state / "codebooks.npz"), build(), np.random.default_rng(0)
    books.books = books.sharpened()  # as they ship
    decoder.load_state_dict(torch.load(state / "decoder.pt")["model"])
    for voice in vocoder.VOICES:
        wrong: dict[str, int] = {}
        for text in texts:
            latents, states = utterance(text, voice, rng)
            spoken = books.normal(latents)
            codes = books.codes(classes(states, len(latents), list(vocoder.VOICES).index(voice)))
            given = {"latents": spoken, "codes": books.decode(codes, spoken)}
            decoded = {name: decoder(normal.T[None])[0, 0].numpy() for name, normal in given.items()}
            heard = {
                "flite": (natural(text, voice), 16_000),
                "teacher": (vocoder.synthesise(latents.astype(float)), 24_000),
                "codec, unquantised latents": (decoded["latents"], 24_000),
                "codec": (decoded["codes"], 24_000),
            }
            for name, (samples, rate_hz) in heard.items():
                wrong[name] = wrong.get(name, 0) + errors(words(text), hear(samples, rate_hz))
        soundfile.write(state / f"codec_{voice}.wav", decoded["codes"], 24_000)
        said = sum(len(words(text)) for text in texts)
        yield voice, {name: round(n / said, 3) for name, n in wrong.items()}


def main(state: pathlib.Path, count: int = 60) -> None:
    for voice, rates in resynthesis(state, HELD_OUT.read_text().splitlines()[:: max(1, 60 // count)]):
        print(voice, rates, flush=True)


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]), *map(int, sys.argv[2:]))
