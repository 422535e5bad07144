"""Step 3: the codes. One codebook is heard, and its codes follow from what is said, so that they can be learnt.

A frame's code is that of its class: voice x phone x quarter of the phone x the phone next to it on that side. Classes
(their mean latents) are put into 1024 codes by k-means. Codes of the frames themselves sound a little better, but text
does not tell them: after 1,550 steps the coarse model was still at 3.4 nats and said no words (README).

The last codebook holds all combinations of the noise signs: drawn at random, it makes noise sound like noise. The six
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
from speak import FRAME_HZ, PHONES, SEMANTIC_HZ

SIZE, BOOKS = 1024, 8
QUARTERS = 4
CLASSES = len(vocoder.VOICES) * len(PHONES) * QUARTERS * len(PHONES)
PRIOR_FRAMES = 4  # a rare class leans on its phone's mean by so many frames
NOISE_FROM = vocoder.LATENT - vocoder.NOISES
# What one unit of a latent is worth. Cepstra are decibels; 4 for the voice keeps a code from ever mixing voices.
WEIGHT = np.array(
    [1 / 30] * vocoder.CEPSTRA + [1.0] * 3 + [4.0] * len(vocoder.VOICES) + [1.0] * vocoder.NOISES, np.float32
)


def classes(states: np.ndarray, frames: int, voice: int) -> np.ndarray:
    """Phone states (n,) at 49.9 Hz -> class of each frame (frames,)."""
    n, parts = len(states), words.runs(states.astype(np.int64))
    phone, beside, place = (np.zeros(n, np.int64) for _ in range(3))
    for j, (p, a, b) in enumerate(parts):
        before, after = (parts[k][0] if 0 <= k < len(parts) else 0 for k in (j - 1, j + 1))
        part = (np.arange(b - a) + 0.5) / (b - a)
        phone[a:b], place[a:b] = p, (part * QUARTERS).astype(int)
        beside[a:b] = np.where(part < 0.5, before, after)
    at = np.minimum(((np.arange(frames) + 0.5) / FRAME_HZ * SEMANTIC_HZ).astype(int), n - 1)
    return ((voice * len(PHONES) + phone[at]) * QUARTERS + place[at]) * len(PHONES) + beside[at]


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
        self.code_of_class = held["code_of_class"]

    def normal(self, latents: np.ndarray) -> torch.Tensor:
        return torch.from_numpy((latents.astype(np.float32) - self.mean) * WEIGHT)

    def decode(self, codes: np.ndarray) -> torch.Tensor:
        """(8, T) codes -> (T, LATENT) normalised latents: what is heard of the codes, and the noise of the last."""
        return sum(self.books[q][torch.from_numpy(codes[q].astype(np.int64))] for q in (0, BOOKS - 1))

    def noisy(self, codes: np.ndarray) -> np.ndarray:
        """The same codes with the last codebook drawn at random, as the fine stage will."""
        return np.concatenate([codes[:-1], np.random.randint(0, SIZE, (1, codes.shape[1]))])


def utterances(shard: pathlib.Path) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Latents (T, LATENT) and classes (T,) of each utterance of a shard."""
    held = np.load(shard)
    latents, offset, token_offset = held["latents"].astype(np.float32), held["offset"], held["token_offset"]
    for i, voice in enumerate(held["voice"]):
        states = held["tokens"][token_offset[i] : token_offset[i + 1]]
        frames = slice(offset[i], offset[i + 1])
        index = list(vocoder.VOICES).index(voice)
        yield latents[frames], classes(states, offset[i + 1] - offset[i], index)


def fit(shards: list[pathlib.Path], path: pathlib.Path) -> None:
    total, count = np.zeros((CLASSES, vocoder.LATENT)), np.zeros(CLASSES)
    for shard in shards:
        for latents, of_class in utterances(shard):
            np.add.at(total, of_class, latents)
            np.add.at(count, of_class, 1)
    mean = (total.sum(0) / count.sum() * (np.arange(vocoder.LATENT) < vocoder.CEPSTRA)).astype(np.float32)
    by_phone = (
        total.reshape(-1, len(PHONES), vocoder.LATENT).sum(1)
        / np.maximum(count.reshape(-1, len(PHONES)).sum(1), 1)[:, None]
    )
    means = (total + PRIOR_FRAMES * by_phone.repeat(len(PHONES), 0)) / (count + PRIOR_FRAMES)[:, None]
    points = torch.from_numpy(((means - mean) * WEIGHT).astype(np.float32)) * (
        torch.arange(vocoder.LATENT) < NOISE_FROM
    )
    weight = np.sqrt(count) / np.sqrt(count).sum()
    heard = k_means(points[np.random.default_rng(0).choice(CLASSES, 60_000, p=weight)], SIZE)
    books = torch.zeros(BOOKS, SIZE, vocoder.LATENT)
    books[0] = heard
    signs = torch.tensor(list(itertools.product([-1.0, 1.0], repeat=vocoder.NOISES)))  # (16, NOISES)
    books[-1, :, NOISE_FROM:] = signs.repeat(SIZE // len(signs), 1)
    np.savez(path, mean=mean, books=books.numpy(), code_of_class=nearest(points, heard).numpy().astype(np.int16))
    print(f"{(count > 0).sum()} of {CLASSES} classes are heard, in {SIZE} codes", flush=True)


def main(state: pathlib.Path) -> None:
    torch.manual_seed(0), torch.set_num_threads(1)
    shards = sorted((state / "speech").glob("???.npz"))
    if not (state / "codebooks.npz").exists():
        fit(shards, state / "codebooks.npz")
    books = Codebooks(state / "codebooks.npz")
    (state / "codes").mkdir(exist_ok=True)
    for shard in shards:
        if not (state / "codes" / f"{shard.stem}.npy").exists():
            of_class = np.concatenate([each for _, each in utterances(shard)])
            codes = np.zeros((BOOKS, len(of_class)), np.int16)
            codes[0] = books.code_of_class[of_class]
            np.save(state / "codes" / f"{shard.stem}.npy", codes)


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]))
