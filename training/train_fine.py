"""Step 8: the fine transformer, codebooks 2 to 6 from 0 and 1, in windows as at inference.

Codebook 7 is noise: its head stays zero, so that it is drawn evenly. Resumes from STATE_DIR/fine.pt.

    python training/train_fine.py STATE_DIR MINUTES
"""

import math
import pathlib
import random
import sys
import time

import numpy as np
import torch
from codebooks import RESIDUAL_SHARDS, SIZE, Codebooks
from corpus import Corpus, Utterance
from torch import Tensor
from torch.nn import functional as F
from train_gpt import HEARD

from pipeline.model.fine import FineGPT
from pipeline.model.gpt import GPTConfig

SHAPE = GPTConfig(SIZE + 1, SIZE + 1, n_layer=2, n_head=2, n_embd=96, n_codes_total=8, n_codes_given=1)
BOOKS, PAD = (2, 3, 4, 5, 6), SIZE
FRAMES, SHORTEST = 1800, 200  # of a step
PEAK_RATE, WARM_STEPS, AVERAGE = 3e-3, 60, 0.99


def build(books: Codebooks) -> FineGPT:
    """Codes that sound alike start alike; so do the envelope's codes and its residuals' in all codebooks."""
    model = FineGPT(SHAPE)
    draw = np.random.default_rng(6)
    project = draw.standard_normal((books.books.shape[2], SHAPE.n_embd)) * 0.05
    for name, weight in model.named_parameters():
        if weight.dim() == 2:
            torch.nn.init.normal_(weight, std=0.01 if name.endswith("c_proj.weight") else 0.02)
        else:
            weight.data.fill_(float(name.endswith("weight")))
    for q, table in enumerate(model.wtes):
        book = books.books[q] - books.books[q].mean(0)
        table.weight.data[:SIZE] += torch.from_numpy(book @ project / max(book.std(), 1e-3) * 0.12).float()
    model.lm_heads[-1].weight.data.zero_()
    return model


def row(said: Utterance, rng: random.Random, frames: int) -> np.ndarray:
    """(frames, 8): speech in one voice, from its beginning, or cut; then padding, as in the window of a short clip."""
    voice = rng.choices(range(len(said.codes)), HEARD)[0]
    codes = said.codes[voice].astype(np.int64)
    start = rng.randrange(0, max(1, codes.shape[1] - frames + 1)) if rng.random() < 0.3 else 0
    codes = codes[:, start : start + frames]
    return np.pad(codes, ((0, 0), (0, frames - codes.shape[1])), constant_values=PAD).T


def loss_of(model: FineGPT, codes: Tensor, book: int, place: int) -> tuple[Tensor, float]:
    """codes (B, T, 8); place: position of the first frame. The codebook itself is not known yet, later ones are not
    read; padding is not learnt."""
    target = codes[:, :, book]
    x = sum((model.wtes[q](codes[:, :, q]) for q in range(book)), torch.zeros(()))
    x = x + model.wtes[book].weight[PAD] + model.wpe.weight[place : place + codes.shape[1]]
    for block in model.h:
        q, k, v = block.attn.qkv(block.ln_1(x))
        x = x + block.attn.project(F.scaled_dot_product_attention(q, k, v))
        x = x + block.mlp(block.ln_2(x))
    learnt = target != PAD
    logits = F.linear(model.ln_f(x[learnt]), model.lm_heads[book - 1].weight[:SIZE]).float()
    return F.cross_entropy(logits, target[learnt]), (logits.argmax(-1) == target[learnt]).float().mean().item()


def main(state: pathlib.Path, minutes: float) -> None:
    torch.manual_seed(1), torch.set_num_threads(1)
    rng, corpus = random.Random(time.time_ns()), Corpus(state, RESIDUAL_SHARDS)
    corpus.utterances = [s for s in corpus.utterances if s.codes.shape[1] == 8]
    model, path, step = build(Codebooks(state / "codebooks.npz")), state / "fine.pt", 0
    optimiser = torch.optim.AdamW(model.parameters(), lr=PEAK_RATE, betas=(0.9, 0.98), weight_decay=0.01, fused=True)
    average = {name: p.detach().clone() for name, p in model.named_parameters()}
    if path.exists():
        held = torch.load(path)
        model.load_state_dict(held["last"])
        optimiser.load_state_dict(held["optimiser"])
        step, average = held["step"], held["model"]

    def save() -> None:
        held = {"model": average, "last": model.state_dict(), "optimiser": optimiser.state_dict(), "step": step}
        torch.save(held, path.with_suffix(".partial"))
        path.with_suffix(".partial").rename(path)

    began, sums, first = time.time(), {book: [] for book in BOOKS}, step
    while (part := (time.time() - began) / (minutes * 60)) < 1:
        for group in optimiser.param_groups:
            group["lr"] = (
                PEAK_RATE * min(1, (step - first + 1) / WARM_STEPS) * (0.02 + 0.98 * (1 + math.cos(math.pi * part)) / 2)
            )
        frames = 1024 if part > 0.85 or rng.random() < 0.1 else rng.randrange(SHORTEST, 450)
        place = rng.randrange(0, 1024 - frames + 1) if part < 0.85 else 0
        count = max(1, FRAMES // frames)
        codes = torch.from_numpy(np.stack([row(rng.choice(corpus.utterances), rng, frames) for _ in range(count)]))
        book = rng.choices(BOOKS, (4, 2, 1, 1, 1))[0]
        with torch.autocast("cpu", torch.bfloat16):
            loss, right = loss_of(model, codes, book, place)
        optimiser.zero_grad()
        loss.backward()
        model.lm_heads[-1].weight.grad = None  # noise: nothing to learn
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        step += 1
        sums[book].append((loss.item(), right))
        if step % 5 == 0:
            for name, p in model.named_parameters():
                average[name].lerp_(p.detach(), 1 - min(AVERAGE, step / (step + 50)))
        if step % 100 == 0 or step == 10:
            told = {book: [round(float(x), 3) for x in np.mean(seen, 0)] for book, seen in sums.items() if seen}
            print(step, f"{time.time() - began:.0f}s", told, flush=True)
            sums = {book: [] for book in BOOKS}
        if step % 200 == 0:
            save()
    save()


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]), float(sys.argv[2]))
