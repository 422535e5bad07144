"""Step 7: the fine transformer: codebook k of 1024 frames from codebooks 0..k-1 and what stands in k already.

Windows are filled as at inference: a voice's history and an utterance, or an utterance padded on the right with 1024
(the padded frames' own samples stand in codebooks 2.. there, so anything may). Resumes from STATE_DIR/fine.pt.

    python training/train_fine.py STATE_DIR MINUTES
"""

import math
import pathlib
import random
import sys
import time

import numpy as np
import torch
from corpus import Corpus, code_embeddings
from torch import Tensor
from torch.nn import functional as F

from pipeline.model.fine import FineGPT
from pipeline.model.gpt import GPTConfig

LAYERS, HEADS, WIDTH, PAD, WINDOW, BATCH = 3, 4, 192, 1024, 1024, 2
PEAK_RATE = 2e-3


def build(state: pathlib.Path) -> FineGPT:
    model = FineGPT(GPTConfig(1025, 1025, LAYERS, HEADS, WIDTH, n_codes_total=8, n_codes_given=1))
    for _name, weight in model.named_parameters():
        if weight.dim() == 2:
            torch.nn.init.normal_(weight, std=0.02)
    for table, rows in zip(model.wtes, code_embeddings(state, WIDTH), strict=False):
        table.weight.data[:1024] = rows
    return model


def window(corpus: Corpus, rng: random.Random, k: int, frames: int) -> tuple[np.ndarray, np.ndarray]:
    """Input codes (frames, 8) and targets (frames,) of codebook k, -100 where nothing is learnt."""
    said = rng.choice(corpus.utterances)
    codes = said.codes
    padded = frames == WINDOW and rng.random() < 0.5
    known = rng.choice([0, 512, rng.randrange(512)])
    if not padded:
        codes = np.concatenate([corpus.history(said.voice, rng, frames)[1], codes], 1)[:, -frames:]
    elif known:
        codes = np.concatenate([corpus.history(said.voice, rng)[1][:, -known:], codes], 1)
    real = min(codes.shape[1], frames)
    known = min(known, real - 1)
    full = np.full((8, frames), PAD)
    full[:, :real] = codes[:, :real]
    target = np.where(np.arange(frames) < real, full[k], -100)
    target[:known] = -100
    full[k, known:] = PAD
    full[2:k, real:] = np.random.randint(0, 1024, full[2:k, real:].shape)
    return full.T, target


def loss_of(model: FineGPT, corpus: Corpus, rng: random.Random, k: int, frames: int, rows: int) -> Tensor:
    pairs = [window(corpus, rng, k, frames) for _ in range(rows)]
    codes, target = (torch.from_numpy(np.stack(part)) for part in zip(*pairs, strict=False))
    logits = model(codes, k)
    return F.cross_entropy(logits.reshape(-1, logits.shape[-1]), target.reshape(-1), ignore_index=-100)


def main(state: pathlib.Path, minutes: float) -> None:
    torch.manual_seed(1), torch.set_num_threads(1)
    rng, corpus, path, step = random.Random(time.time_ns()), Corpus(state), state / "fine.pt", 0
    model = build(state)
    optimiser = torch.optim.AdamW(model.parameters(), lr=PEAK_RATE, betas=(0.9, 0.98), weight_decay=0.01)
    if path.exists():
        held = torch.load(path)
        model.load_state_dict(held["model"]), optimiser.load_state_dict(held["optimiser"])
        step = held["step"]

    def save():
        return torch.save({"model": model.state_dict(), "optimiser": optimiser.state_dict(), "step": step}, path)

    began, sums = time.time(), {}
    while (part := (time.time() - began) / (minutes * 60)) < 1:
        for group in optimiser.param_groups:
            group["lr"] = PEAK_RATE * min(1, part * 30 + 0.01) * (0.02 + 0.98 * (0.5 + 0.5 * math.cos(math.pi * part)))
        k = rng.choice([2, 2, 3, 3, 4, 4, 5, 6, 7])
        frames, rows = (WINDOW, 1) if part > 0.6 or rng.random() < 0.1 else (256, 6)  # short windows learn faster
        loss = loss_of(model, corpus, rng, k, frames, rows)
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        step += 1
        total, count = sums.get(k, (0.0, 0))
        sums[k] = (total + loss.item(), count + 1)
        if step % 100 == 0:
            print(
                step,
                f"{time.time() - began:.0f}s",
                {k: round(a / n, 2) for k, (a, n) in sorted(sums.items())},
                flush=True,
            )
            sums = {}
        if step % 200 == 0:
            save()
    save()


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]), float(sys.argv[2]))
