"""Step 4: semantic tokens and codes of all speech.

Codebook 0 is the envelope that is usual for what is said (envelope.py), for each voice by k-means. Codebook 1 is pitch
and phase: 63 steps of the phase x 16 phases, of which the next phase always follows. Codebooks 2 to 6 are what codebook
0 leaves of the envelope, by k-means of residuals; the fine model has something to predict. Codebook 7 holds the
combinations of the noise signs; it is drawn at random.

    python training/codebooks.py STATE_DIR        writes STATE_DIR/codebooks.npz and STATE_DIR/codes/*.npz
"""

import pathlib
import sys
from collections.abc import Iterator

import numpy as np
import torch
import vocoder
import words
from vocoder import FRAME_HZ, GRID, HARMONIC, NOISY, SLOWEST

SIZE, BOOKS = 1024, 8
# A voice: how its pitch and its resonances differ from the teacher's, and its codes in codebook 0
VOICES = {"heart": (1.0, 1.0, 512), "low": (0.6, 0.88, 256), "bright": (1.15, 1.07, 256)}
FIRST = dict(zip(VOICES, (0, 512, 768), strict=True))
CLASSES = len(words.SYMBOLS) * words.HALVES
ENVELOPE = HARMONIC + NOISY
RESIDUAL_BOOKS, RESIDUAL_SHARDS = (2, 3, 4, 5, 6), 5
FITTED_SHARDS, FITTED_FRAMES = 2, 40_000
LEAD, TAIL = 6, 9  # teacher's frames kept of the silence before and after
QUIET = -3.5  # natural log of amplitude, teacher's units: what is lower is not heard
NOISE_WEIGHT = 0.7  # of noise cepstra in distances
WEIGHT = np.concatenate([np.ones(HARMONIC), np.full(NOISY, NOISE_WEIGHT)]).astype(np.float32)
UNVOICED = 0  # code of codebook 1


def pitch_code(steps: np.ndarray, phases: np.ndarray) -> np.ndarray:
    return np.where(steps > 0, 1 + (steps - SLOWEST) * GRID + phases, UNVOICED)


def step_and_phase(code: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    step, phase = np.divmod(code - 1, GRID)
    return np.where(code > 0, step + SLOWEST, 0), np.where(code > 0, phase, 0)


def floored(cepstra: np.ndarray) -> np.ndarray:
    bands = vocoder.bands_of(cepstra)
    return (np.maximum(bands, QUIET) @ vocoder.DCT[: cepstra.shape[1]].T).astype(np.float32)


class Speech:
    """One utterance as it is taught: tokens, words, classes of frames, envelope (T, 36), f0 (T,) at 75 Hz."""

    def __init__(self, text: str, frames: np.ndarray, phone_rows: np.ndarray):
        self.text, frames = text, frames.astype(np.float32)
        phones = words.phones_of(phone_rows)
        loud = np.maximum(vocoder.bands_of(frames[:, :HARMONIC]).max(1) * (frames[:, -1] > 40) - 1.5,
                          vocoder.bands_of(frames[:, HARMONIC:-1]).max(1))  # fmt: skip
        start = max(0, phones[0][1] - LEAD)
        stop = min(len(frames), int(np.flatnonzero(loud > -1.0)[-1]) + TAIL)
        count = int((stop - start) / words.TEACHER_HZ * words.SEMANTIC_HZ)
        self.base, self.word, self.pause = words.located(phones, start, count)
        n = int(count * FRAME_HZ / words.SEMANTIC_HZ)
        at = start + (np.arange(n) + 1) / FRAME_HZ * words.TEACHER_HZ
        whole = np.stack([np.interp(at, np.arange(len(frames)), column) for column in frames[:, :-1].T], 1)
        f0, at = frames[:, -1], at - 0.5
        self.voiced = f0[np.clip(np.round(at).astype(int), 0, len(f0) - 1)] > 55
        heard = np.where(f0 > 55, f0, np.nan)
        self.f0 = np.interp(at, np.flatnonzero(f0 > 55), heard[f0 > 55]) if self.voiced.any() else np.zeros(n)
        harmonic, noisy = floored(whole[:, :HARMONIC]), floored(whole[:, HARMONIC:])
        self.envelope = np.concatenate([harmonic, noisy], 1).astype(np.float32)
        token = self.base[np.minimum(((np.arange(n) + 0.5) / FRAME_HZ * words.SEMANTIC_HZ).astype(int), count - 1)]
        self.classes = token // (words.SLOTS * words.PLACES)

    def steps(self, voice: str) -> np.ndarray:
        return vocoder.steps_on_grid(self.f0 * VOICES[voice][0], self.voiced)

    def spoken_by(self, voice: str, unvoiced: np.ndarray) -> np.ndarray:
        """(T, 36) the envelope with the voice's resonances; unvoiced frames have no harmonics: a fixed stand-in."""
        stretch = VOICES[voice][1]
        both = [vocoder.warped(part, stretch) for part in np.split(self.envelope, [HARMONIC], axis=1)]
        both[0] = np.where(self.voiced[:, None], both[0], unvoiced)
        return np.concatenate(both, 1).astype(np.float32)


def speech(path: pathlib.Path) -> Iterator[Speech]:
    with np.load(path) as held:
        texts, frames, phones, at, phone_at = (held[k] for k in ("text", "frames", "phones", "at", "phone_at"))
    for i, text in enumerate(map(str, texts)):
        yield Speech(text, frames[at[i] : at[i + 1]], phones[phone_at[i] : phone_at[i + 1]])


def usual(path: pathlib.Path, state: pathlib.Path) -> Iterator[Speech]:
    """A shard's utterances, with the envelope that is usual for what they say."""
    import envelope

    model = envelope.load(state / "envelope.pt")
    for said in speech(path):
        said.envelope = model.sharpened(said)
        yield said


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


def likeliest_class(codes: torch.Tensor, classes: torch.Tensor, count: int) -> np.ndarray:
    """(count,) of each code's frames: where a transformer's embedding of it starts."""
    return torch.bincount(codes * CLASSES + classes, minlength=count * CLASSES).view(count, CLASSES).argmax(1).numpy()


class Codebooks:
    """Codes of speech, latents of codes."""

    def __init__(self, path: pathlib.Path):
        held = np.load(path)
        self.books, self.code_class, self.unvoiced = held["books"], held["code_class"], held["unvoiced"]
        self.weighted = [torch.from_numpy(book[:, :ENVELOPE] * WEIGHT) for book in self.books]

    def envelope_code(self, spoken: np.ndarray, voice: str) -> np.ndarray:
        """(T,) the nearest of the voice's codes."""
        centres = self.weighted[0][FIRST[voice] : FIRST[voice] + VOICES[voice][2]]
        return nearest(torch.from_numpy(spoken * WEIGHT), centres).numpy() + FIRST[voice]

    def residual_codes(self, spoken: np.ndarray, first: np.ndarray) -> np.ndarray:
        """(5, T)"""
        left, codes = torch.from_numpy((spoken - self.books[0][first][:, :ENVELOPE]) * WEIGHT), []
        for book in RESIDUAL_BOOKS:
            codes.append(nearest(left, self.weighted[book]))
            left = left - self.weighted[book][codes[-1]]
        return torch.stack(codes).numpy()

    def decode(self, codes: np.ndarray) -> np.ndarray:
        """(8, T) -> latents (T, LATENT)."""
        return sum(book[row] for book, row in zip(self.books, codes, strict=True))

    def of(self, said: Speech, voice: str, rng: np.random.Generator, residuals: bool = True) -> np.ndarray:
        """(8, T)"""
        spoken, steps = said.spoken_by(voice, self.unvoiced), said.steps(voice)
        codes = np.zeros((BOOKS, len(steps)), np.int64)
        codes[0] = self.envelope_code(spoken, voice)
        codes[1] = pitch_code(steps, vocoder.phases_of(steps))
        if residuals:
            codes[2:7] = self.residual_codes(spoken, codes[0])
        codes[7] = rng.integers(0, SIZE, len(steps))
        return codes


def fit(state: pathlib.Path) -> None:
    torch.manual_seed(5)
    said = [s for path in sorted((state / "speech").glob("???.npz"))[:FITTED_SHARDS] for s in usual(path, state)]
    voiced = np.concatenate([s.envelope[s.voiced, :HARMONIC] for s in said])
    unvoiced = voiced.mean(0)
    unvoiced[0] -= 3 * vocoder.BANDS**0.5  # three nepers lower
    books = np.zeros((BOOKS, SIZE, vocoder.LATENT), np.float32)
    code_class, residuals = np.zeros(SIZE, np.int64), []
    classes = torch.from_numpy(np.concatenate([s.classes for s in said]))
    for voice, (_, _, count) in VOICES.items():
        spoken = torch.from_numpy(np.concatenate([s.spoken_by(voice, unvoiced) for s in said]) * WEIGHT)
        centres = k_means(spoken[torch.randperm(len(spoken))[:FITTED_FRAMES]], count)
        span = slice(FIRST[voice], FIRST[voice] + count)
        codes = nearest(spoken, centres)
        books[0, span, :ENVELOPE], code_class[span] = centres / WEIGHT, likeliest_class(codes, classes, count)
        left = spoken - centres[codes]
        print(voice, f"left of the envelope's variance {left.var(0).sum() / spoken.var(0).sum():.3f}", flush=True)
        residuals.append(left[torch.randperm(len(left))[: FITTED_FRAMES * count // SIZE]])
    left = torch.cat(residuals)
    for book in RESIDUAL_BOOKS:
        centres = k_means(left, SIZE, 5)
        centres[0] = 0
        left = left - centres[nearest(left, centres)]
        books[book, :, :ENVELOPE] = centres / WEIGHT
        print(book, f"left {left.square().sum(1).mean():.3f}", flush=True)
    steps, phases = step_and_phase(np.arange(SIZE))
    steps = np.minimum(steps, vocoder.FASTEST)
    none = np.zeros((SIZE, ENVELOPE), np.float32)
    books[1] = vocoder.latents(none, steps, phases, np.zeros((SIZE, vocoder.SIGNS)))
    books[7, :, -vocoder.SIGNS :] = ((np.arange(SIZE)[:, None] >> np.arange(vocoder.SIGNS)) & 1) * 2.0 - 1
    np.savez(state / "codebooks.npz", books=books, code_class=code_class, unvoiced=unvoiced)


def write_codes(state: pathlib.Path, path: pathlib.Path, books: Codebooks, residuals: bool) -> None:
    """Codes (voices, 8 or 2, T) of a shard's utterances one after another, tokens, words and pauses."""
    rng, said = np.random.default_rng(int(path.stem)), list(usual(path, state))
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
    books = Codebooks(state / "codebooks.npz")
    for number, path in enumerate(sorted((state / "speech").glob("???.npz"))):
        if number % every == first and not (state / "codes" / path.name).exists():
            write_codes(state, path, books, residuals=number < RESIDUAL_SHARDS)


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]), *map(int, sys.argv[2:]))
