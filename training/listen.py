"""Word error rate of the teacher and of the codec on the held-out sentences, beside flite as it comes.

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


def natural(text: str) -> np.ndarray:
    """flite's rms as it comes, with its own intonation, 16 kHz."""
    with tempfile.NamedTemporaryFile(suffix=".wav") as file:
        subprocess.run(["flite", "-voice", "rms", "-t", text, "-o", file.name], check=True)
        return soundfile.read(file.name)[0]


@torch.no_grad()
def resynthesis(state: pathlib.Path, texts: list[str]) -> Iterator[tuple[str, dict[str, float]]]:
    """Each voice, and the word error rates of what its teacher and its codec make of the texts."""
    torch.set_num_threads(1)
    books, decoder, rng = Codebooks(state / "codebooks.npz"), build(), np.random.default_rng(0)
    books.books = books.sharpened()  # as they ship
    decoder.load_state_dict(torch.load(state / "decoder.pt")["model"])
    said, as_it_comes = sum(len(words(text)) for text in texts), 0
    for index, voice in enumerate(vocoder.VOICES):
        wrong = {"flite": as_it_comes}
        for text in texts:
            features, states = utterance(text)
            latents = vocoder.latents_of(features, index, rng)
            spoken = books.normal(latents)
            told = books.decode(books.codes(classes(states, len(latents)), index), spoken)
            heard = {
                "teacher": (vocoder.synthesise(latents.astype(float)), 24_000),
                "codec, unquantised latents": (decoder(spoken.T[None])[0, 0].numpy(), 24_000),
                "codec": (decoder(told.T[None])[0, 0].numpy(), 24_000),
            }
            if index == 0:  # the three voices are one speaker's
                heard["flite"] = (natural(text), 16_000)
            for name, (samples, rate_hz) in heard.items():
                wrong[name] = wrong.get(name, 0) + errors(words(text), hear(samples, rate_hz))
        as_it_comes = wrong["flite"]
        yield voice, {name: round(n / said, 3) for name, n in wrong.items()}


def main(state: pathlib.Path, count: int = 60) -> None:
    for voice, rates in resynthesis(state, HELD_OUT.read_text().splitlines()[:: max(1, 60 // count)]):
        print(voice, rates, flush=True)


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]), *map(int, sys.argv[2:]))
