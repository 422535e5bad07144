"""Step 3: semantic tokens and codes of all speech.

Codebook 0 is what is said: phone and how much of it is left, in each voice; its latents are the mean envelope there.
Codebook 1 is pitch and phase: 63 steps of the phase x 16 phases, of which the next phase always follows. Codebooks 2 to
6 are what codebook 0 leaves of the envelope, by k-means of residuals: the fine model sees both sides of a frame, so
that it can draw the envelope that belongs between its neighbours. Codebook 7 holds the combinations of the noise signs;
it is drawn at random.

    python training/codebooks.py STATE_DIR [first shard] [every nth]

writes STATE_DIR/codebooks.npz and STATE_DIR/codes/*.npz
"""

import pathlib
import sys
from collections.abc import Iterator

import numpy as np
import torch
import vocoder
import words
from vocoder import ENVELOPE, FRAME_HZ, GRID, HARMONIC, SLOWEST

SIZE, BOOKS = 1024, 8
VOICES = {"heart": (1.0, 1.0), "low": (0.6, 0.88), "bright": (1.15, 1.07)}  # times the teacher's pitch and resonances
LEFT = 5  # frames of a phone are told apart by as many tokens left
CLASSES = len(words.SYMBOLS) * LEFT  # 340: codes of a voice in codebook 0
RESIDUAL_BOOKS, RESIDUAL_SHARDS = (2, 3, 4, 5, 6), 20
FITTED_SHARDS, FITTED_FRAMES = 4, 60_000
LEAD, TAIL = 6, 9  # teacher's frames kept of the silence before and after
SILENT = -1.0  # loudness
VOICED_HZ = 55  # f0 below is none
WEIGHT = np.where(np.arange(ENVELOPE) < HARMONIC, 1, 0.7).astype(np.float32)  # of coordinates in distances
USUAL_FRAMES = 20  # a class is mixed with as many frames of its phone
UNVOICED = 0  # code of codebook 1


def first_of(voice: str) -> int:
    """The voice's first code in codebook 0."""
    return list(VOICES).index(voice) * CLASSES


def pitch_code(steps: np.ndarray, phases: np.ndarray) -> np.ndarray:
    return np.where(steps > 0, 1 + (steps - SLOWEST) * GRID + phases, UNVOICED)


def step_and_phase(code: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    step, phase = np.divmod(code - 1, GRID)
    return np.where(code > 0, step + SLOWEST, 0), np.where(code > 0, phase, 0)


class Speech:
    """One utterance as it is taught: tokens, words, classes of frames, envelope (T, ENVELOPE), f0 (T,) at 75 Hz."""

    def __init__(self, text: str, frames: np.ndarray, phone_rows: np.ndarray):
        self.text, frames = text, frames.astype(np.float32)
        phones, loudness, f0 = words.phones_of(phone_rows), frames[:, -2], frames[:, -1]
        start = max(0, phones[0][1] - LEAD)
        stop = min(len(frames), int(np.flatnonzero(loudness > SILENT)[-1]) + TAIL)
        count = int((stop - start) / words.TEACHER_HZ * words.SEMANTIC_HZ)
        self.base, token_left, self.word, self.pause = words.located(phones, start, count)
        n = int(count * FRAME_HZ / words.SEMANTIC_HZ)
        at = start + (np.arange(n) + 1) / FRAME_HZ * words.TEACHER_HZ
        columns = [np.interp(at, np.arange(len(frames)), column) for column in frames[:, :ENVELOPE].T]
        self.envelope = np.stack(columns, 1).astype(np.float32)
        at = at - 0.5
        heard = np.flatnonzero(f0 > VOICED_HZ)
        self.voiced = f0[np.clip(np.round(at).astype(int), 0, len(f0) - 1)] > VOICED_HZ
        self.f0 = np.interp(at, heard, f0[heard]) if len(heard) else np.zeros(n)
        token = np.minimum(((np.arange(n) + 0.5) / FRAME_HZ * words.SEMANTIC_HZ).astype(int), count - 1)
        symbol = words.parts_of(self.base)[0]
        self.classes = (symbol * LEFT + np.minimum(token_left, LEFT) - 1)[token]

    def steps(self, voice: str) -> np.ndarray:
        return vocoder.steps_on_grid(self.f0 * VOICES[voice][0], self.voiced)

    def spoken_by(self, voice: str, basis: vocoder.Basis) -> np.ndarray:
        """(T, ENVELOPE) the envelope with the voice's resonances; of unvoiced frames, harmonics mean nothing."""
        parts = np.split(self.envelope, [HARMONIC], axis=1)
        return np.concatenate([basis.warped(k, part, VOICES[voice][1]) for k, part in enumerate(parts)], 1)


def speech(path: pathlib.Path) -> Iterator[Speech]:
    with np.load(path) as held:
        texts, frames, phones, at, phone_at = (held[k] for k in ("text", "frames", "phones", "at", "phone_at"))
    for i, text in enumerate(map(str, texts)):
        yield Speech(text, frames[at[i] : at[i + 1]], phones[phone_at[i] : phone_at[i + 1]])


def nearest(rows: torch.Tensor, centres: torch.Tensor, chunk: int = 20_000) -> torch.Tensor:
    half = centres.square().sum(1) / 2
    return torch.cat([(half - part @ centres.T).argmin(1) for part in rows.split(chunk)])


def k_means(rows: torch.Tensor, k: int, rounds: int = 12) -> torch.Tensor:
    centres = rows[torch.randperm(len(rows))[:k]].clone()
    if len(centres) < k:
        centres = torch.cat([centres, centres[torch.randint(len(centres), (k - len(centres),))] + 1e-3])
    for _ in range(rounds):
        of = nearest(rows, centres)
        count = torch.bincount(of, minlength=k)
        centres = torch.zeros_like(centres).index_add_(0, of, rows) / count.clamp(min=1)[:, None]
        for empty in (count == 0).nonzero()[:, 0]:
            centres[empty] = rows[torch.randint(len(rows), ())]
    return centres


class Codebooks:
    """Codes of speech, latents of codes. Latents of the envelope are coordinates / scale: small ones count, too."""

    def __init__(self, state: pathlib.Path):
        held = np.load(state / "codebooks.npz")
        self.basis, self.books, self.scale = vocoder.Basis(state / "basis.npz"), held["books"], held["scale"]
        self.weighted = [torch.from_numpy(self.envelope(book) * WEIGHT) for book in self.books]

    def envelope(self, latents: np.ndarray) -> np.ndarray:
        """(T, LATENT) -> coordinates (T, ENVELOPE)"""
        return latents[:, :ENVELOPE] * self.scale

    def spoken(self, said: Speech, voice: str) -> np.ndarray:
        """(T, ENVELOPE) coordinates; the harmonics of unvoiced frames are those of codebook 0."""
        spoken, unvoiced = said.spoken_by(voice, self.basis), ~said.voiced
        mean = self.envelope(self.books[0][first_of(voice) + said.classes[unvoiced]])
        spoken[unvoiced, :HARMONIC] = mean[:, :HARMONIC]
        return spoken

    def decode(self, codes: np.ndarray) -> np.ndarray:
        """(8, T) -> latents (T, LATENT)."""
        return sum(book[row] for book, row in zip(self.books, codes, strict=True))

    def of(self, said: Speech, voice: str, rng: np.random.Generator, residuals: bool = True) -> np.ndarray:
        """(8, T)"""
        steps = said.steps(voice)
        codes = np.zeros((BOOKS, len(steps)), np.int64)
        codes[0] = first_of(voice) + said.classes
        codes[1] = pitch_code(steps, vocoder.phases_of(steps))
        codes[7] = rng.integers(0, SIZE, len(steps))
        if residuals:
            left = torch.from_numpy(self.spoken(said, voice) * WEIGHT) - self.weighted[0][codes[0]]
            for book in RESIDUAL_BOOKS:
                found = nearest(left, self.weighted[book])
                left, codes[book] = left - self.weighted[book][found], found.numpy()
        return codes


def class_means(rows: np.ndarray, of: np.ndarray) -> np.ndarray:
    """(CLASSES, C): means of rows (n, C) by class, mixed with the phone's where there are few, and that with all."""

    def means(group: np.ndarray, count: int, prior: np.ndarray) -> np.ndarray:
        sums = np.zeros((count, rows.shape[1]))
        np.add.at(sums, group, rows)
        return (sums + USUAL_FRAMES * prior) / (np.bincount(group, minlength=count)[:, None] + USUAL_FRAMES)

    phones = means(of // LEFT, CLASSES // LEFT, rows.mean(0))
    return means(of, CLASSES, np.repeat(phones, LEFT, 0)).astype(np.float32)


def fit(state: pathlib.Path) -> None:
    """Write STATE_DIR/codebooks.npz."""
    torch.manual_seed(5)
    basis = vocoder.Basis(state / "basis.npz")
    said = [s for path in sorted((state / "speech").glob("???.npz"))[:FITTED_SHARDS] for s in speech(path)]
    books, residuals = np.zeros((BOOKS, SIZE, vocoder.LATENT), np.float32), []
    classes, voiced = (np.concatenate([getattr(s, name) for s in said]) for name in ("classes", "voiced"))
    for voice in VOICES:
        spoken = np.concatenate([s.spoken_by(voice, basis) for s in said])
        harmonic = class_means(spoken[voiced, :HARMONIC], classes[voiced])
        mean = np.concatenate([harmonic, class_means(spoken[:, HARMONIC:], classes)], 1)
        books[0, first_of(voice) : first_of(voice) + CLASSES, :ENVELOPE] = mean
        left = spoken - mean[classes]
        left[~voiced, :HARMONIC] = 0
        print(voice, f"spread {spoken[voiced].std(0).mean():.3f}, left {left.std(0).mean():.3f}", flush=True)
        residuals.append(torch.from_numpy(left * WEIGHT)[torch.randperm(len(left))[: FITTED_FRAMES // len(VOICES)]])
        if voice == next(iter(VOICES)):
            spread = spoken[voiced].std(0)
    scale = np.sqrt(spread / spread.max())
    remaining = torch.cat(residuals)
    for book in RESIDUAL_BOOKS:
        centres = k_means(remaining, SIZE, 8)
        remaining = remaining - centres[nearest(remaining, centres)]
        books[book, :, :ENVELOPE] = centres / WEIGHT
        print(book, f"left {remaining.square().sum(1).mean():.3f}", flush=True)
    books[:, :, :ENVELOPE] /= scale
    steps, phases = step_and_phase(np.arange(SIZE))
    none = np.zeros((SIZE, ENVELOPE), np.float32)
    books[1] = vocoder.latents(none, np.minimum(steps, vocoder.FASTEST), phases, np.zeros((SIZE, vocoder.SIGNS)))
    books[7, :, -vocoder.SIGNS :] = ((np.arange(SIZE)[:, None] >> np.arange(vocoder.SIGNS)) & 1) * 2.0 - 1
    np.savez(state / "codebooks.npz", books=books, scale=scale.astype(np.float32))


def write_codes(state: pathlib.Path, path: pathlib.Path, books: Codebooks, residuals: bool) -> None:
    """Codes (voices, 8 or 2, T) of a shard's utterances one after another, tokens, words and pauses."""
    rng, said = np.random.default_rng(int(path.stem)), list(speech(path))
    codes = [np.stack([books.of(s, voice, rng, residuals) for voice in VOICES]) for s in said]
    codes = [c if residuals else c[:, :2] for c in codes]
    partial = state / "codes" / f"{path.stem}.partial.npz"
    np.savez(
        partial,
        text=np.array([s.text for s in said]),
        codes=np.concatenate(codes, 2).astype(np.int16),
        base=np.concatenate([s.base for s in said]).astype(np.int16),
        word=np.concatenate([s.word for s in said]).astype(np.int16),
        pause=np.concatenate([s.pause for s in said]),
        at=np.cumsum([0, *(c.shape[2] for c in codes)]),
        token_at=np.cumsum([0, *(len(s.base) for s in said)]),
    )
    partial.rename(state / "codes" / path.name)
    print(path.name, flush=True)


def main(state: pathlib.Path, first: int = 0, every: int = 1) -> None:
    torch.set_num_threads(1)
    (state / "codes").mkdir(exist_ok=True)
    if not (state / "codebooks.npz").exists():
        fit(state)
    books = Codebooks(state)
    for number, path in enumerate(sorted((state / "speech").glob("???.npz"))):
        if number % every == first and not (state / "codes" / path.name).exists():
            write_codes(state, path, books, residuals=number < RESIDUAL_SHARDS)


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]), *map(int, sys.argv[2:]))
