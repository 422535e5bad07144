"""Step 2: the teacher speaks the sentences; what is kept of each is its parameters, not its sound.

The teacher, hibari-tts, is parametric: its graph gives, per 12.5 ms, the envelopes of harmonics and of noise and f0,
and inside, how long each phone lasts. These are read instead of analysing sound.

First, STATE_DIR/basis.npz is fitted to the spectra of some sentences, in all vocal tracts. A shard is one .npz of SHARD
utterances in STATE_DIR/speech; made shards are skipped, so the step resumes. Utterance i of a shard: text[i],
frames[at[i]:at[i+1]] = coordinates of the envelope, loudness and f0, and phones[phone_at[i]:phone_at[i+1]] = rows of
(symbol's code point, frames that it lasts, number of its word in the text).

    python training/speak.py STATE_DIR [first shard] [every nth]
"""

import pathlib
import sys

import hibari.tts
import numpy as np
import onnx
import onnxruntime
import vocoder
from codebooks import VOICED_HZ, VOICES
from hibari import Hibari
from hibari.g2p.normalize import normalize

SHARD, FITTED = 500, 120  # sentences of a shard, and of the basis
TEACHER_HZ = 80
MOST_PHONES = 400
DURATIONS = "/Clip_output_0"  # frames of each symbol, an inner value of the teacher's graph

Spectra = tuple[np.ndarray, np.ndarray, np.ndarray]  # log amplitudes of harmonics, of noise (T, BINS), f0 (T,)
Spoken = tuple[str, np.ndarray, np.ndarray]  # text, (T, ENVELOPE + 2) features, (n, 3) phones


class Teacher:
    """hibari-tts with its durations."""

    def __init__(self) -> None:
        self.tts = Hibari(threads=1)
        model = onnx.load(pathlib.Path(hibari.tts.ASSETS) / "hibari.onnx")
        model.graph.output.append(onnx.helper.make_tensor_value_info(DURATIONS, onnx.TensorProto.FLOAT, None))
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.log_severity_level = 1, 3
        self.graph = onnxruntime.InferenceSession(model.SerializeToString(), options)

    def symbols(self, text: str) -> list[tuple[str, int]] | None:
        """Phone symbols, each with the number of its word in text.split(); None where words can't be told apart."""
        found, word = [], 0
        tokens = self.tts.g2p.phonemize_tokens(self.tts.g2p.tokenize(normalize(text)))
        for token in tokens:
            found += [(symbol, word) for symbol in token.phonemes or ""]
            if token.whitespace:
                found.append((" ", word))
                word += 1
        found = [(symbol, word) for symbol, word in found if symbol in self.tts.vocab]
        return found if word + 1 == len(text.split()) and 0 < len(found) <= MOST_PHONES else None

    def spectra(self, symbols: list[tuple[str, int]]) -> tuple[Spectra, np.ndarray]:
        """And the frames that each symbol lasts, with those of the silence before and after."""
        ids = [0, *(self.tts.vocab[symbol] for symbol, _ in symbols), 0]
        given = {"ids": np.array([ids]), "speed": np.ones(1, np.float32)}
        harmonic, _, noisy, free, _, f0, durations = self.graph.run(None, given)
        # What has phases of its own becomes noise, too
        noise = np.logaddexp(2 * np.minimum(noisy[0], 7), 2 * np.minimum(free[0], 7)).T / 2
        return (harmonic[0].T, vocoder.smoothed(noise), np.maximum(f0[0], 0)), durations.ravel().astype(np.int64)

    def speak(self, text: str, basis: vocoder.Basis) -> Spoken | None:
        symbols = self.symbols(text)
        if symbols is None:
            return None
        (harmonic, noise, f0), lasts = self.spectra(symbols)
        loudness = np.maximum(noise.max(1), np.where(f0 > VOICED_HZ, harmonic.max(1) - 1.5, -10))
        envelope = [basis.coordinates(0, harmonic), basis.coordinates(1, noise)]
        features = np.concatenate([*envelope, loudness[:, None], f0[:, None]], 1)
        named = [(0, 0), *((ord(symbol), word) for symbol, word in symbols), (0, symbols[-1][1])]
        phones = np.array([(symbol, n, word) for (symbol, word), n in zip(named, lasts, strict=True)], np.int32)
        features = features[: 2 * lasts.sum()]
        phones[:, 1] *= len(features) // lasts.sum()  # a unit of duration is two frames
        return text, features.astype(np.float16), phones


def fit_basis(teacher: Teacher, texts: list[str], path: pathlib.Path) -> None:
    harmonic, noise = [], []
    for symbols in filter(None, map(teacher.symbols, texts)):
        (spectrum, noisy, f0), _ = teacher.spectra(symbols)
        for _, stretch in VOICES.values():
            harmonic.append(vocoder.stretched(spectrum[f0 > VOICED_HZ], stretch))
            noise.append(vocoder.stretched(noisy, stretch))
    vocoder.fit_basis(path, [np.concatenate(harmonic), np.concatenate(noise)])


def main(state: pathlib.Path, first: int = 0, every: int = 1) -> None:
    teacher, texts = Teacher(), (state / "sentences.txt").read_text().splitlines()
    folder = state / "speech"
    folder.mkdir(exist_ok=True)
    if not (state / "basis.npz").exists():
        fit_basis(teacher, texts[:FITTED], state / "basis.npz")
    basis = vocoder.Basis(state / "basis.npz")
    for shard in range(first, -(-len(texts) // SHARD), every):
        path = folder / f"{shard:03d}.npz"
        if path.exists():
            continue
        wanted = texts[shard * SHARD : (shard + 1) * SHARD]
        spoken = [made for text in wanted if (made := teacher.speak(text, basis))]
        texts_, features, phones = zip(*spoken, strict=True)
        partial = path.with_suffix(".partial.npz")
        np.savez(
            partial,
            text=np.array(texts_),
            frames=np.concatenate(features),
            phones=np.concatenate(phones),
            at=np.cumsum([0, *map(len, features)]),
            phone_at=np.cumsum([0, *map(len, phones)]),
        )
        partial.rename(path)
        print(path.name, len(spoken), f"{sum(map(len, features)) / TEACHER_HZ / 60:.1f} minutes", flush=True)


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]), *map(int, sys.argv[2:]))
