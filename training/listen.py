"""Word error rate of the teacher and of the codec on the held-out sentences, beside flite's own natural voices.

python training/listen.py STATE_DIR [sentences a voice]
"""

import pathlib
import subprocess
import sys
import tempfile

import numpy as np
import soundfile
import torch
import vocoder
from codebooks import Codebooks, classes, nearest
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
def main(state: pathlib.Path, count: int = 60) -> None:
    torch.set_num_threads(1)
    books, decoder, rng = Codebooks(state / "codebooks.npz"), build(), np.random.default_rng(0)
    decoder.load_state_dict(torch.load(state / "decoder.pt")["model"])
    for voice in vocoder.VOICES:
        wrong, said = {}, 0
        for text in HELD_OUT.read_text().splitlines()[:: max(1, 60 // count)]:
            latents, states = utterance(text, voice, rng)
            own = np.zeros((8, len(latents)), np.int64)
            own[0] = nearest(books.normal(latents), books.books[0])
            learnt = np.zeros_like(own)
            learnt[0] = books.code_of_class[classes(states, len(latents), list(vocoder.VOICES).index(voice))]
            normal = {name: books.decode(books.noisy(codes)) for name, codes in (("own", own), ("learnt", learnt))}
            decoded = {name: decoder(each.T[None])[0, 0].numpy() for name, each in normal.items()}
            heard = {
                "flite": (natural(text, voice), 16_000),
                "teacher": (vocoder.synthesise(latents.astype(float)), 24_000),
                "codec, codes nearest to the speech": (decoded["own"], 24_000),
                "codec, codes of what is said": (decoded["learnt"], 24_000),
            }
            said += len(words(text))
            for name, (samples, rate_hz) in heard.items():
                wrong[name] = wrong.get(name, 0) + errors(words(text), hear(samples, rate_hz))
        soundfile.write(state / f"codec_{voice}.wav", decoded["learnt"], 24_000)
        print(voice, said, "words", {name: round(n / said, 3) for name, n in wrong.items()}, flush=True)


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]), *map(int, sys.argv[2:]))
