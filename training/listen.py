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
from codebooks import Codebooks
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
            latents = utterance(text, voice, rng)[0].astype(np.float16)
            codes = books.encode(latents)
            decoded = {used: decoder(signed(books, codes, used).T[None])[0, 0].numpy() for used in (2, 8)}
            heard = {
                "flite": (natural(text, voice), 16_000),
                "teacher": (vocoder.synthesise(latents.astype(float)), 24_000),
                "teacher, 2 codebooks": (vocoder.synthesise(books.latents(signed(books, codes, 2))), 24_000),
                "codec": (decoded[8], 24_000),
                "codec, 2 codebooks": (decoded[2], 24_000),
            }
            said += len(words(text))
            for name, (samples, rate_hz) in heard.items():
                wrong[name] = wrong.get(name, 0) + errors(words(text), hear(samples, rate_hz))
        soundfile.write(state / f"codec_{voice}.wav", decoded[8], 24_000)
        print(voice, said, "words", {name: round(n / said, 3) for name, n in wrong.items()}, flush=True)


def signed(books: Codebooks, codes: np.ndarray, used: int) -> torch.Tensor:
    """(T, LATENT) from the first codebooks, with the noise signs that the last one holds."""
    normal = books.decode(codes, used)
    normal[:, -vocoder.NOISES :] = books.books[7][torch.from_numpy(codes[7].astype(np.int64))][:, -vocoder.NOISES :]
    return normal


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]), *map(int, sys.argv[2:]))
