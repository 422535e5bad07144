"""Step 8: the fine transformer, codebooks 2 to 6 from 0 and 1, in windows as at inference.

Codebook 7 is noise: its head stays zero, so that it is drawn evenly. Resumes from STATE_DIR/fine.pt.

    python training/train_fine.py STATE_DIR MINUTES
"""

import math
import pathlib
import random
import sys
import time

import cycle
import numpy as np
import torch
from codebooks import RESIDUAL_SHARDS, SIZE, Codebooks
from corpus import Corpus, Utterance
from torch import Tensor
from torch.nn import functional as F
from train_gpt import HEARD
from vocoder import ENVELOPE

from pipeline.model.fine import FineGPT
from pipeline.model.gpt import GPTConfig

SHAPE = GPTConfig(SIZE + 1, SIZE + 1, n_layer=4, n_head=8, n_embd=128, n_codes_total=8, n_codes_given=1)
BOOKS, SHARES, PAD = (2, 3, 4, 5, 6), (5, 3, 2, 1, 1), SIZE
FRAMES, SHORTEST = 2400, 200  # of a step
WARM_STEPS, AVERAGE = 60, 0.99
# Heads start by looking at one neighbor each, so that the layers start as convolutions
OFFSETS = ((1, 2, 3, 4), (1, 2, 5, 8), (1, 3, 6, 12), (1, 2, 4, 9))
PERIODS = (4.1, 6.7, 11, 19, 35, 80, 250, 900)  # frames, of the waves that tell positions
PLACED = 2 * len(PERIODS)  # dimensions that hold them; the last dimension of the final norm is a constant


def build(books: Codebooks) -> FineGPT:
    """Codes start as their envelopes, on one projection for all codebooks: a codebook's head starts as a distance."""
    model, width = FineGPT(SHAPE), SHAPE.n_embd
    for name, weight in model.named_parameters():
        if weight.dim() == 2:
            torch.nn.init.normal_(weight, std=(0.35 if name.endswith("c_proj.weight") else 1) * width**-0.5)
        else:
            weight.data.fill_(float(name.endswith("weight")))
    turns = 2 * math.pi / torch.tensor(PERIODS)
    waves = torch.outer(torch.arange(1024.0), turns)
    model.wpe.weight.data.zero_()
    model.wpe.weight.data[:, :PLACED] = 0.5 * torch.stack([waves.sin(), waves.cos()], -1).flatten(1)
    for block, offsets in zip(model.h, OFFSETS, strict=True):
        weight = block.attn.c_attn.weight.data  # (3 * width, width): q, k, v
        weight[: 2 * width] *= 0.1
        for head, offset in enumerate(sign * n for n in offsets for sign in (1, -1)):
            for i, turn in enumerate(turns.tolist()):
                # (sin, cos) of the place, for queries turned to that of the neighbor
                sine, cosine, at = math.sin(offset * turn), math.cos(offset * turn), head * PLACED + 2 * i
                weight[at : at + 2, 2 * i : 2 * i + 2] = torch.tensor([[cosine, sine], [-sine, cosine]])
                weight[width + at : width + at + 2, 2 * i : 2 * i + 2] = torch.eye(2)
    envelope = torch.nn.init.orthogonal_(torch.empty(width - PLACED - 1, ENVELOPE))
    for table, book in zip(model.wtes, books.weighted, strict=True):
        table.weight.data.normal_(0, 0.02)
        book = book / book.square().sum(1).mean().sqrt().clamp(min=1e-3)
        table.weight.data[:SIZE, PLACED:-1] += book @ envelope.T
        table.weight.data[:SIZE, -1] = -0.5 * book.square().sum(1)
    pitch = torch.from_numpy(books.books[1][:, ENVELOPE:])
    model.wtes[1].weight.data[:SIZE, PLACED:-1] = pitch @ torch.randn(pitch.shape[1], width - PLACED - 1) * 0.03
    model.ln_f.weight.data.fill_(0.7)
    model.ln_f.weight.data[-1] = 0
    model.ln_f.bias.data[-1] = 4
    model.lm_heads[-1].weight.data.zero_()
    return model


def row(said: Utterance, rng: random.Random, frames: int) -> np.ndarray:
    """(frames, 8): speech in one voice, from its beginning, or cut; then padding, as in the window of a short clip."""
    voice = rng.choices(range(len(said.codes)), HEARD)[0]
    codes = said.codes[voice].astype(np.int64)
    start = rng.randrange(0, max(1, codes.shape[1] - frames + 1)) if rng.random() < 0.3 else 0
    codes = codes[:, start : start + frames]
    return np.pad(codes, ((0, 0), (0, frames - codes.shape[1])), constant_values=PAD).T


def loss_of(model: FineGPT, codes: Tensor, book: int, place: int, known: int) -> tuple[Tensor, float]:
    """codes (B, T, 8); place: position of the first frame. The codebook itself is known of the first `known` frames, as
    of a voice's prompt; later codebooks are not read; padding is not learnt."""
    target = codes[:, :, book].clone()
    own = target.clone()
    own[:, known:], target[:, :known] = PAD, PAD
    x = sum((model.wtes[q](codes[:, :, q]) for q in range(book)), torch.zeros(()))
    x = x + model.wtes[book](own) + model.wpe.weight[place : place + codes.shape[1]]
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
    model, path, step = build(Codebooks(state)), state / "fine.pt", 0
    optimiser = torch.optim.AdamW(model.parameters(), betas=(0.9, 0.98), weight_decay=0.01, fused=True)
    average = {name: p.detach().clone() for name, p in model.named_parameters()}
    if path.exists():
        held = torch.load(path)
        model.load_state_dict(held["last"])
        optimiser.load_state_dict(held["optimiser"])
        step, average = held["step"], held["model"]

    def save() -> None:
        state_dicts = {"last": model.state_dict(), "optimiser": optimiser.state_dict()}
        cycle.save(path, {"model": average, "step": step} | state_dicts)

    began, sums, first = time.time(), {book: [] for book in BOOKS}, step
    while (part := (time.time() - began) / (minutes * 60)) < 1:
        for group in optimiser.param_groups:
            group["lr"] = cycle.learning_rate(part, step - first, WARM_STEPS, first > 0)
        frames = 1024 if part > 0.85 or rng.random() < 0.1 else rng.randrange(SHORTEST, 450)
        place = rng.randrange(0, 1024 - frames + 1) if part < 0.85 else 0
        count = max(1, FRAMES // frames)
        codes = torch.from_numpy(np.stack([row(rng.choice(corpus.utterances), rng, frames) for _ in range(count)]))
        book = rng.choices(BOOKS, SHARES)[0]
        with torch.autocast("cpu", torch.bfloat16):
            loss, right = loss_of(model, codes, book, place, known=rng.choice([0, 0, 0, 60]))
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
