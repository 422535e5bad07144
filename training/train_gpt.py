"""Steps 5 and 6: the causal transformers, semantic and coarse, on prompts laid out exactly as at inference.

A share of the steps leaves the prompt's padding out (every token keeps its position), which costs half as much; the
other steps show it, because at inference padding is attended to. Resumes from STATE_DIR/{stage}.pt.

    python training/train_gpt.py STATE_DIR semantic|coarse MINUTES
"""

import math
import pathlib
import random
import sys
import time

import numpy as np
import torch
from corpus import (
    COARSE_INFER,
    COARSE_PAD,
    COARSE_VOCABULARY,
    SEMANTIC,
    TEXT_OFFSET,
    Corpus,
    code_embeddings,
    semantic_embeddings,
    word_embeddings,
)
from torch import Tensor
from torch.nn import functional as F
from vocoder import VOICES

from pipeline.model.gpt import GPT, GPTConfig

LAYERS, HEADS, WIDTH = 4, 4, 192
RATIO = 75 / 49.9 * 2  # coarse tokens a semantic token
PEAK_RATE, PLAIN_SHARE = 2e-3, 0.65  # PLAIN_SHARE of a run's time leaves padding out
BATCH = {"semantic": 8, "coarse": 4}
JOINED = 0.3  # of the texts are two sentences: without any, the second of two in a segment was left unsaid

HIDDEN = -2  # as a second id: the first is a target, but not shown

# One training row: ids (P,), second ids summed on or -1 or HIDDEN (P,), positions (P,), where what is learnt starts
Row = tuple[np.ndarray, np.ndarray, np.ndarray, int]


def semantic_row(corpus: Corpus, rng: random.Random, plain: bool) -> Row:
    """[text 256 + history 256 | infer | tokens | EOS]"""
    said = rng.choice(corpus.utterances)
    ids, places = corpus.text_ids(said.text, rng)
    spoken = said.semantic(places)
    if rng.random() < JOINED:
        then = rng.choice(corpus.utterances)
        more, places = corpus.text_ids(then.text, rng)
        spoken, ids = np.concatenate([spoken, then.semantic(places + len(ids))]), np.concatenate([ids, more])
    text = np.full(256, corpus.text_pad)
    text[: len(ids)] = ids
    old = np.full(256, SEMANTIC)
    if rng.random() < 0.5:
        kept = corpus.tokens(rng.choice(corpus.utterances))[-256:]
        old[: len(kept)] = kept
    used = max(len(ids), 256 if old[0] != SEMANTIC else 0) if plain else 256
    tokens = np.concatenate([[corpus.semantic_infer], spoken, [SEMANTIC]])
    ids = np.concatenate([text[:used], tokens])
    second = np.concatenate([old[:used], np.full(len(tokens), -1)])
    return ids, second, np.concatenate([np.arange(used), 256 + np.arange(len(tokens))]), used + 1


def coarse_row(corpus: Corpus, rng: random.Random, plain: bool) -> Row:
    """One inference window: [semantic 256 | infer | up to 630 old coarse tokens | 60 new], all coarse tokens learnt."""
    said, voice = rng.choice(corpus.utterances), rng.randrange(len(VOICES))

    def flat(codes):
        return (codes[:2] + np.array([[SEMANTIC], [SEMANTIC + 1024]])).T.reshape(-1)

    semantic, new, old_s, old_c = corpus.tokens(said), flat(said.codes_of(voice)), 0, np.zeros(0, np.int64)
    if rng.random() < 0.4:
        spoken, codes = corpus.history(voice, rng)
        old_s = min(209, len(spoken) - len(spoken) % 2, int(codes.shape[1] * 2 // RATIO))
        semantic, old_c = np.concatenate([spoken[-old_s:], semantic]), flat(codes)[-round(old_s * RATIO) :][:-2]
    steps = range(0, len(new), 60)
    last_unmoved = max([n for n in steps if old_s + round(n / RATIO) <= 209], default=0)
    n = rng.choice([last_unmoved, rng.choice(steps)])
    start = max(0, old_s + round(n / RATIO) - 209)
    window = semantic[start : start + 256]
    known = len(window)
    if not plain:
        window = np.concatenate([window, np.full(256 - known, COARSE_PAD)])
    coarse = np.concatenate([old_c, new[: n + 60]])[max(0, len(old_c) + n - 630) :]
    ids = np.concatenate([window, [COARSE_INFER], coarse])
    positions = np.concatenate([np.arange(len(window)), 256 + np.arange(1 + len(coarse))])
    second = np.full(len(ids), -1)
    # Hiding coarse tokens makes the model read the semantic ones: with all shown it learnt to go on as before,
    # 1300 steps long, and speech that was no words. The first frame stays, for nothing else tells the voice
    hidden = rng.choice([0.0, 0.5, 1.0] if plain else [0.0, 0.0, 0.2])
    second[len(window) + 3 :][np.random.random(len(coarse) - 2) < hidden] = HIDDEN
    return ids, second, positions, len(window) + 1


def collate(rows: list[Row]) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """ids, second, positions, targets (all (B, P)), padded on the right with what is never learnt (-100)."""
    longest = max(len(row[0]) for row in rows)
    ids, second, positions = (
        torch.from_numpy(np.stack([np.pad(row[k], (0, longest - len(row[k])), constant_values=fill) for row in rows]))
        for k, fill in ((0, 0), (1, -1), (2, 0))
    )
    targets = torch.full((len(rows), longest), -100)
    for b, (row, _, _, start) in enumerate(rows):
        targets[b, start - 1 : len(row) - 1] = torch.from_numpy(row[start:])
    return ids, second, positions, targets


def loss_of(model: GPT, stage: str, rows: list[Row]) -> tuple[Tensor, Tensor]:
    """Mean cross entropy in nats, and the share of right first guesses."""
    ids, second, positions, targets = collate(rows)
    ids = ids.where(second != HIDDEN, COARSE_PAD)
    x = model.wte(ids) + model.wpe(positions) + model.wte(second.clamp(min=0)) * (second >= 0)[..., None]
    for block in model.h:
        q, k, v = block.attn.qkv(block.ln_1(x))
        x = x + block.attn.project(F.scaled_dot_product_attention(q, k, v, is_causal=True))
        x = x + block.mlp(block.ln_2(x))
    learnt = targets >= 0
    x, targets = model.ln_f(x[learnt]), targets[learnt]
    ranges = (
        [(0, SEMANTIC + 1)]
        if stage == "semantic"
        else [(SEMANTIC, SEMANTIC + 1024), (SEMANTIC + 1024, SEMANTIC + 2048)]
    )
    total, right = torch.zeros(()), torch.zeros(())
    for low, high in ranges:  # a coarse token is chosen from its own codebook only
        mine = (targets >= low) & (targets < high)
        logits = F.linear(x[mine], model.lm_head.weight[low:high])
        total = total + F.cross_entropy(logits, targets[mine] - low, reduction="sum")
        right = right + (logits.argmax(-1) == targets[mine] - low).sum()
    return total / len(targets), right / len(targets)


def build(stage: str, corpus: Corpus) -> GPT:
    sizes = (
        (corpus.semantic_vocabulary, SEMANTIC + 1) if stage == "semantic" else (COARSE_VOCABULARY, COARSE_VOCABULARY)
    )
    model = GPT(GPTConfig(*sizes, LAYERS, HEADS, WIDTH), merged_len=256 if stage == "semantic" else 0)
    for name, weight in model.named_parameters():
        if weight.dim() == 2:
            torch.nn.init.normal_(weight, std=0.02 / (2 * LAYERS) ** 0.5 if name.endswith("c_proj.weight") else 0.02)
    (start_semantic if stage == "semantic" else start_coarse)(model, corpus)
    return model


def see_alike(model: GPT, heads: int, strength: float = 0.08) -> None:
    """In the first layer's first heads, queries start equal to keys: a position looks at what resembles it."""
    rows = heads * WIDTH // HEADS
    weight = model.h[0].attn.c_attn.weight.data  # (3 · WIDTH, WIDTH): q, k, v
    weight[:rows] = torch.randn(rows, WIDTH) * strength
    weight[WIDTH : WIDTH + rows] = weight[:rows]


def start_semantic(model: GPT, corpus: Corpus) -> None:
    """Words start as their phones, tokens as what they are made of, text positions resemble their place's tokens."""
    tokens, places = semantic_embeddings(WIDTH)
    model.wte.weight.data[:SEMANTIC] = tokens
    model.lm_head.weight.data[:SEMANTIC] = tokens
    model.wte.weight.data[TEXT_OFFSET : corpus.text_pad] = word_embeddings(corpus, WIDTH)
    model.wpe.weight.data[:256] += places.repeat(256 // len(places) + 1, 1)[:256] * 1.5
    see_alike(model, 2)


def start_coarse(model: GPT, corpus: Corpus) -> None:
    """Codes start as their codebook entries; a coarse position resembles the semantic position spoken at that time."""
    for q, rows in enumerate(code_embeddings(corpus.state, WIDTH)[:2]):
        for weight in (model.wte.weight, model.lm_head.weight):
            weight.data[SEMANTIC + 1024 * q : SEMANTIC + 1024 * (q + 1)] = rows
    model.wte.weight.data[:SEMANTIC] = semantic_embeddings(WIDTH)[0]
    spoken_at = torch.cat([torch.arange(256.0), torch.arange(1024 - 256) / RATIO])  # in semantic tokens
    waves = torch.outer(spoken_at, torch.logspace(-2.0, 0.0, WIDTH // 2))  # periods 6 to 600 tokens
    sides = torch.nn.functional.normalize(torch.randn(2, WIDTH), dim=1)  # semantic, coarse
    side_of = torch.cat([sides[:1].expand(256, -1), sides[1:].expand(1024 - 256, -1)])
    model.wpe.weight.data = (torch.cat([waves.sin(), waves.cos()], 1) + side_of * WIDTH**0.5) * 0.1
    see_alike(model, 2, strength=0.16)
    weight = model.h[0].attn.c_attn.weight.data
    rows = [*range(2 * WIDTH // HEADS), *range(WIDTH, WIDTH + 2 * WIDTH // HEADS)]
    weight[rows] -= weight[rows] @ torch.linalg.pinv(sides) @ sides  # by time alone, then by side:
    for first in (0, WIDTH // HEADS):  # the same two heads: coarse positions look at semantic ones, not at each other
        meet = torch.nn.functional.normalize(torch.randn(WIDTH // HEADS), dim=0) * 0.6
        weight[first : first + WIDTH // HEADS] += torch.outer(meet, sides[1])
        weight[WIDTH + first : WIDTH + first + WIDTH // HEADS] += torch.outer(meet, sides[0])
    torch.nn.init.normal_(model.h[0].attn.c_proj.weight, std=0.03)


def bucketed(make, corpus: Corpus, rng: random.Random, plain: bool, size: int) -> list[list[Row]]:
    """Eight batches of rows of like lengths, in random order."""
    rows = sorted((make(corpus, rng, plain) for _ in range(8 * size)), key=lambda row: len(row[0]))
    batches = [rows[i : i + size] for i in range(0, len(rows), size)]
    rng.shuffle(batches)
    return batches


def main(state: pathlib.Path, stage: str, minutes: float) -> None:
    torch.manual_seed(1)
    rng, corpus = random.Random(time.time_ns()), Corpus(state)
    model, path, step = build(stage, corpus), state / f"{stage}.pt", 0
    optimiser = torch.optim.AdamW(model.parameters(), lr=PEAK_RATE, betas=(0.9, 0.98), weight_decay=0.01)
    if path.exists():
        held = torch.load(path)
        model.load_state_dict(held["model"])
        step = held["step"]
        if "optimiser" in held:  # not in weights taken from a checkpoint
            optimiser.load_state_dict(held["optimiser"])
    make, began, waiting, sums = {"semantic": semantic_row, "coarse": coarse_row}[stage], time.time(), [], [0.0, 0.0, 0]
    while (part := (time.time() - began) / (minutes * 60)) < 1:
        waiting = waiting or bucketed(make, corpus, rng, part < PLAIN_SHARE, BATCH[stage])
        warm = min(1.0, (time.time() - began) / 30)
        for group in optimiser.param_groups:
            group["lr"] = PEAK_RATE * warm * (0.02 + 0.98 * (0.5 + 0.5 * math.cos(math.pi * part)))
        with torch.autocast("cpu", torch.bfloat16):  # 1.45 times as fast, and the losses are the same to 0.001
            loss, right = loss_of(model, stage, waiting.pop())
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        step, sums = step + 1, [sums[0] + loss.item(), sums[1] + right.item(), sums[2] + 1]
        if step % 50 == 0:
            print(
                step,
                f"{time.time() - began:.0f}s",
                f"loss {sums[0] / sums[2]:.3f} right {sums[1] / sums[2]:.3f}",
                flush=True,
            )
            sums = [0.0, 0.0, 0]
        if step % 200 == 0:
            torch.save({"model": model.state_dict(), "optimiser": optimiser.state_dict(), "step": step}, path)
    torch.save({"model": model.state_dict(), "optimiser": optimiser.state_dict(), "step": step}, path)


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]), sys.argv[2], float(sys.argv[3]))
