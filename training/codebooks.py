"""Step 3: the codes. Two codebooks are heard, and both follow from what is said, so that they can be learnt.

Codebook 0 is voice x phone x sixth of the phone (738 codes): the semantic tokens tell it by themselves. Codebook 1 adds
what the phone beside it changes: the mean features of phone x sixth x phone next to it on that side (6,982 classes)
minus codebook 0's, in 1024 codes by k-means; it is the same for all voices. Codes of the frames themselves sound a
little better, but text does not tell them: after 1,550 steps the coarse model was still at 3.4 nats and said no words.

The last codebook holds all combinations of the noise signs: drawn at random, it makes noise sound like noise. The five
between are zero.

    python training/codebooks.py STATE_DIR        writes STATE_DIR/codebooks.npz and STATE_DIR/codes/*.npy
"""

import itertools
import pathlib
import sys
from collections.abc import Iterator

import numpy as np
import torch
import vocoder
import words
from speak import PHONES, SEMANTIC_HZ
from vocoder import FRAME_HZ

SIZE, BOOKS = 1024, 8
PARTS = 6  # of a phone
MONO = len(PHONES) * PARTS  # codes a voice in codebook 0
FEATURES = vocoder.CEPSTRA + len(vocoder.BANDS_HZ)
SHARPER = 1.2  # words wrong from codes, README
FITTED_SHARDS = 20  # half of the speech: nearly every class is heard
PRIOR_FRAMES = 4  # a rare class leans on its phone's mean by so many frames
NOISE_FROM = vocoder.LATENT - vocoder.NOISES
# What one unit of a latent is worth. Cepstra are decibels; 4 for the voice keeps a code from ever mixing voices.
WEIGHT = np.array(
    [1 / 30] * vocoder.CEPSTRA + [1.0] * 3 + [4.0] * len(vocoder.VOICES) + [1.0] * vocoder.NOISES, np.float32
)


def classes(states: np.ndarray, frames: int) -> np.ndarray:
    """Phone states (n,) at 49.9 Hz -> class of each frame (frames,): MONO class x the phone beside it."""
    n, parts = len(states), words.runs(states.astype(np.int64))
    phone, first, length, before, after = (np.zeros(n, np.int64) for _ in range(5))
    for j, (p, a, b) in enumerate(parts):
        phone[a:b], first[a:b], length[a:b] = p, a, b - a
        before[a:b], after[a:b] = (parts[k][0] if 0 <= k < len(parts) else 0 for k in (j - 1, j + 1))
    spoken_at = (np.arange(frames) + 0.5) / FRAME_HZ * SEMANTIC_HZ  # in semantic tokens
    at = np.minimum(spoken_at.astype(int), n - 1)
    part = ((spoken_at - first[at]) / length[at]).clip(0, 0.999)
    mono = phone[at] * PARTS + (part * PARTS).astype(int)
    return mono * len(PHONES) + np.where(part < 0.5, before[at], after[at])


def nearest(points: torch.Tensor, book: torch.Tensor) -> torch.Tensor:
    """points (T, C), book (K, C) -> (T,) index of the nearest entry."""
    return torch.cat([(part @ book.T * 2 - (book**2).sum(1)).argmax(1) for part in points.split(20_000)])


def k_means(points: torch.Tensor, size: int, steps: int = 12) -> torch.Tensor:
    """(T, C) -> (size, C); entries that nobody uses move to random points."""
    book = points[torch.randperm(len(points))[:size]].clone()
    for _ in range(steps):
        chosen = nearest(points, book)
        count = torch.bincount(chosen, minlength=size)
        total = torch.zeros_like(book).index_add_(0, chosen, points)
        book = total / count.clamp(min=1)[:, None]
        book[count == 0] = points[torch.randperm(len(points))[: int((count == 0).sum())]]
    return book


class Codebooks:
    """The eight codebooks (8, 1024, LATENT) over latents shifted by `mean` and scaled by WEIGHT."""

    def __init__(self, path: pathlib.Path):
        held = np.load(path)
        self.mean, self.books = held["mean"], torch.from_numpy(held["books"])
        self.code_of_class = held["code_of_class"]  # (MONO x phones,) in codebook 1

    def normal(self, latents: np.ndarray) -> torch.Tensor:
        return torch.from_numpy((latents.astype(np.float32) - self.mean) * WEIGHT)

    def codes(self, of_class: np.ndarray, voice: int = 0) -> np.ndarray:
        """Classes (T,) -> codes (8, T); the last codebook's are left to be drawn."""
        codes = np.zeros((BOOKS, len(of_class)), np.int16)
        codes[0], codes[1] = voice * MONO + of_class // len(PHONES), self.code_of_class[of_class]
        return codes

    def decode(self, codes: np.ndarray, spoken: torch.Tensor) -> torch.Tensor:
        """(8, T) codes -> (T, LATENT) normalised latents, with the noise signs of `spoken` (T, LATENT)."""
        heard = sum(self.books[q][torch.from_numpy(codes[q].astype(np.int64))] for q in (0, 1))
        return torch.cat([heard[:, :NOISE_FROM], spoken[:, NOISE_FROM:]], 1)

    def sharpened(self) -> torch.Tensor:
        """The codebooks as they ship: means are duller than any frame that they are means of, so the cepstra (but
        loudness) are spread SHARPER times as far. Linear, so that sums of codes are, too."""
        books, dull = self.books.clone(), torch.arange(1, vocoder.CEPSTRA)
        books[:2, :, dull] *= SHARPER
        books[0, :, dull] += (SHARPER - 1) * torch.from_numpy(self.mean * WEIGHT)[dull]
        return books


def utterances(shard: pathlib.Path) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Features (T, FEATURES) and classes (T,) of each utterance of a shard."""
    held = np.load(shard)
    features, offset, token_offset = held["features"].astype(np.float32), held["offset"], held["token_offset"]
    for i in range(len(held["text"])):
        states = held["tokens"][token_offset[i] : token_offset[i + 1]]
        yield features[offset[i] : offset[i + 1]], classes(states, offset[i + 1] - offset[i])


def fit(shards: list[pathlib.Path], path: pathlib.Path) -> None:
    total, count = np.zeros((MONO * len(PHONES), FEATURES)), np.zeros(MONO * len(PHONES))
    for shard in shards:
        for features, of_class in utterances(shard):
            np.add.at(total, of_class, features)
            np.add.at(count, of_class, 1)
    mean = np.zeros(vocoder.LATENT, np.float32)
    mean[: vocoder.CEPSTRA] = total.sum(0)[: vocoder.CEPSTRA] / count.sum()
    mono_count = count.reshape(MONO, -1).sum(1)
    mono = total.reshape(MONO, len(PHONES), -1).sum(1) / np.maximum(mono_count, 1)[:, None]
    by_mono = mono.repeat(len(PHONES), 0)
    more = (total + PRIOR_FRAMES * by_mono) / (count + PRIOR_FRAMES)[:, None] - by_mono
    points = torch.from_numpy((more * WEIGHT[:FEATURES]).astype(np.float32))
    weight = np.sqrt(count) / np.sqrt(count).sum()
    beside = k_means(points[np.random.default_rng(0).choice(len(count), 60_000, p=weight)], SIZE)
    books = torch.zeros(BOOKS, SIZE, vocoder.LATENT)
    said = (mono - mean[:FEATURES]) * WEIGHT[:FEATURES] * (mono_count > 0)[:, None]
    for voice in range(len(vocoder.VOICES)):
        rows = books[0, voice * MONO : (voice + 1) * MONO]
        rows[:, :FEATURES], rows[:, FEATURES + voice] = torch.from_numpy(said), float(WEIGHT[FEATURES + voice])
    books[1, :, :FEATURES] = beside
    signs = torch.tensor(list(itertools.product([-1.0, 1.0], repeat=vocoder.NOISES)))  # (16, NOISES)
    books[-1, :, NOISE_FROM:] = signs.repeat(SIZE // len(signs), 1)
    np.savez(path, mean=mean, books=books.numpy(), code_of_class=nearest(points, beside).numpy().astype(np.int16))
    print(f"{(count > 0).sum()} classes are heard, {(mono_count > 0).sum()} without the phone beside", flush=True)


def main(state: pathlib.Path) -> None:
    torch.manual_seed(0), torch.set_num_threads(1)
    shards = sorted((state / "speech").glob("???.npz"))
    if not (state / "codebooks.npz").exists():
        fit(shards[:FITTED_SHARDS], state / "codebooks.npz")
    books = Codebooks(state / "codebooks.npz")
    (state / "codes").mkdir(exist_ok=True)
    for shard in shards:
        if not (state / "codes" / f"{shard.stem}.npy").exists():
            of_class = np.concatenate([each for _, each in utterances(shard)])
            np.save(state / "codes" / f"{shard.stem}.npy", books.codes(of_class))


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]))
