"""Step 3: eight codebooks by k-means on the latents, stage by stage on what the stage before left over.

Nothing here is trained by gradients, so no codebook can die, and the three transformers need not wait for the decoder.
Codebooks 0 to 6 hold voice, envelope and voicing, roughly first. Codebook 7 is a product: 16 combinations of the noise
signs times 64 corrections; chosen at random by the fine model it makes noise sound like noise.

    python training/codebooks.py STATE_DIR        writes STATE_DIR/codebooks.npz and STATE_DIR/codes/*.npy
"""

import itertools
import pathlib
import sys

import numpy as np
import torch
import vocoder

SIZE, BOOKS = 1024, 8
NOISE_FROM = vocoder.LATENT - vocoder.NOISES
# What one unit of a latent is worth. Cepstra are decibels; 4 for the voice keeps codebook 0 from ever mixing voices.
WEIGHT = np.array(
    [1 / 30] * vocoder.CEPSTRA + [1.0] * 3 + [4.0] * len(vocoder.VOICES) + [1.0] * vocoder.NOISES, np.float32
)


def nearest(points: torch.Tensor, book: torch.Tensor) -> torch.Tensor:
    """points (T, C), book (K, C) → (T,) index of the nearest entry."""
    return torch.cat([(part @ book.T * 2 - (book**2).sum(1)).argmax(1) for part in points.split(20_000)])


def k_means(points: torch.Tensor, size: int, steps: int = 12) -> torch.Tensor:
    """(T, C) → (size, C); entries that nobody uses move to random points."""
    book = points[torch.randperm(len(points))[:size]].clone()
    for _ in range(steps):
        chosen = nearest(points, book)
        count = torch.bincount(chosen, minlength=size)
        total = torch.zeros_like(book).index_add_(0, chosen, points)
        book = total / count.clamp(min=1)[:, None]
        book[count == 0] = points[torch.randperm(len(points))[: int((count == 0).sum())]]
    return book


def noise_book(residual: torch.Tensor) -> torch.Tensor:
    """(T, LATENT) → (1024, LATENT): all noise signs times 64 corrections."""
    signs = torch.tensor(list(itertools.product([-1.0, 1.0], repeat=vocoder.NOISES)))  # (16, NOISES)
    fixes = k_means(residual[:, :NOISE_FROM], SIZE // len(signs))  # (64, rest)
    return torch.cat([fixes.repeat_interleave(len(signs), 0), signs.repeat(len(fixes), 1)], 1)


class Codebooks:
    """The eight codebooks (8, 1024, LATENT) over latents shifted by `mean` and scaled by WEIGHT."""

    def __init__(self, path: pathlib.Path):
        held = np.load(path)
        self.mean, self.books = held["mean"], torch.from_numpy(held["books"])

    def normal(self, latents: np.ndarray) -> torch.Tensor:
        return torch.from_numpy((latents.astype(np.float32) - self.mean) * WEIGHT)

    def encode(self, latents: np.ndarray) -> np.ndarray:
        """(T, LATENT) → (8, T) codes, greedy, one codebook after the other."""
        rest, codes = self.normal(latents), []
        for book in self.books:
            codes.append(nearest(rest, book))
            rest = rest - book[codes[-1]]
        return torch.stack(codes).numpy().astype(np.int16)

    def decode(self, codes: np.ndarray, used: int = BOOKS) -> torch.Tensor:
        """(8, T) → (T, LATENT) normalised latents from the first `used` codebooks."""
        return sum(self.books[q][torch.from_numpy(codes[q].astype(np.int64))] for q in range(used))

    def latents(self, normal: torch.Tensor) -> np.ndarray:
        return normal.numpy() / WEIGHT + self.mean


def fit(latents: np.ndarray, path: pathlib.Path) -> None:
    mean = latents.mean(0) * (np.arange(vocoder.LATENT) < vocoder.CEPSTRA)
    rest = torch.from_numpy((latents - mean) * WEIGHT).float()
    spread, books = rest[:, :NOISE_FROM].std(0).norm(), []
    for q in range(BOOKS):
        book = noise_book(rest) if q == BOOKS - 1 else k_means(rest * (torch.arange(vocoder.LATENT) < NOISE_FROM), SIZE)
        chosen = nearest(rest, book)
        rest = rest - book[chosen]
        share = torch.bincount(chosen, minlength=SIZE) / len(chosen)
        use = torch.exp(-(share * (share + 1e-9).log()).sum())
        left = rest[:, :NOISE_FROM].std(0).norm() / spread
        print(f"codebook {q}: perplexity {use:.0f}, left over {left:.3f} of the spread", flush=True)
        books.append(book)
    np.savez(path, mean=mean.astype(np.float32), books=torch.stack(books).numpy())


def main(state: pathlib.Path) -> None:
    torch.manual_seed(0), torch.set_num_threads(1)
    shards = sorted((state / "speech").glob("???.npz"))
    if not (state / "codebooks.npz").exists():
        latents = np.concatenate([np.load(shard)["latents"] for shard in shards[:6]]).astype(np.float32)
        fit(latents[np.random.default_rng(0).permutation(len(latents))[:150_000]], state / "codebooks.npz")
    books = Codebooks(state / "codebooks.npz")
    (state / "codes").mkdir(exist_ok=True)
    for shard in shards:
        if not (state / "codes" / f"{shard.stem}.npy").exists():
            np.save(state / "codes" / f"{shard.stem}.npy", books.encode(np.load(shard)["latents"]))


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]))
