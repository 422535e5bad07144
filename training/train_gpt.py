"""Steps 6 and 7: the causal transformers, semantic and coarse, on prompts laid out as at inference.

For most of a run only a few positions of the prompt's padding are shown (every token keeps its position), which costs
half as much; the last steps show all, because at inference padding is attended to. Resumes from STATE_DIR/{stage}.pt.

    python training/train_gpt.py STATE_DIR semantic|coarse MINUTES
"""

import math
import pathlib
import random
import sys
import time

import numpy as np
import torch
from codebooks import VOICES, Codebooks
from corpus import COARSE_INFER, COARSE_PAD, SEMANTIC, Corpus
from tables import Table, alike, code_blend, code_parts, semantic_parts, text_parts
from torch import Tensor, nn
from torch.nn import functional as F

from pipeline.model.gpt import GPT, GPTConfig

LAYERS, HEADS, WIDTH = 4, 4, 192
RATIO = 75 / 49.9 * 2  # coarse tokens a semantic token
PEAK_RATE, WARM_STEPS, AVERAGE, PLAIN_SHARE = 2e-3, 60, 0.99, 0.8  # PLAIN_SHARE of a run's time leaves padding out
TOKENS = {"semantic": 1800, "coarse": 2400}  # of one step
JOINED = (0.5, 0.25, 0.15, 0.1)  # shares of texts of one to four sentences
MOST_TEXT_IDS, MOST_TOKENS, FEW_PADS = 44, 740, 12
HEARD = (0.5, 0.25, 0.25)  # of the voices, where a history tells it
HIDDEN = -2  # as a second id: the first is a target, but not shown

# One training row: ids (P,), second ids summed on or -1 or HIDDEN (P,), positions (P,), where what is learnt starts
Row = tuple[np.ndarray, np.ndarray, np.ndarray, int]


def shown(used: int, plain: bool) -> np.ndarray:
    """Positions of the first 256 that a row shows: those in use, and few or all of the padding."""
    padding = np.arange(used, 256)
    if plain and len(padding) > FEW_PADS:
        padding = np.sort(np.random.choice(padding, FEW_PADS, replace=False))
    return np.concatenate([np.arange(used), padding])


def semantic_row(corpus: Corpus, rng: random.Random, plain: bool) -> Row:
    """[text 256 + history 256 | infer | tokens | EOS]"""
    ids, spoken = np.zeros(0, np.int64), np.zeros(0, np.int64)
    for _ in range(rng.choices((1, 2, 3, 4), JOINED)[0]):
        said = rng.choice(corpus.utterances)
        more, places = corpus.text_ids(said.text, rng)
        if len(ids) and (len(ids) + len(more) > MOST_TEXT_IDS or len(spoken) + len(said.base) > MOST_TOKENS):
            break
        spoken = np.concatenate([spoken, said.semantic(places + len(ids))])
        ids = np.concatenate([ids, more])
    text = np.full(256, corpus.text_pad)
    text[: len(ids)] = ids
    old, used = np.full(256, SEMANTIC), len(ids)
    if rng.random() < 0.35:
        kept = corpus.tokens(rng.choice(corpus.utterances))[-256:]
        old[: len(kept)] = kept
        used = max(used, len(kept))
    at = shown(used, plain)
    tokens = np.concatenate([[corpus.semantic_infer], spoken, [SEMANTIC]])
    second = np.concatenate([old[at], np.full(len(tokens), -1)])
    return np.concatenate([text[at], tokens]), second, np.concatenate([at, 256 + np.arange(len(tokens))]), len(at) + 1


def coarse_row(corpus: Corpus, rng: random.Random, plain: bool) -> Row:
    """One inference window: [semantic 256 | infer | up to 630 old coarse tokens | 60 new], all coarse tokens learnt."""

    def flat(codes):
        return (codes[:2].astype(np.int64) + np.array([[SEMANTIC], [SEMANTIC + 1024]])).T.reshape(-1)

    voice, old_s, old_c = 0, 0, np.zeros(0, np.int64)
    told = rng.random() < 0.5
    if told:
        voice = rng.choices(range(len(VOICES)), HEARD)[0]
    said = rng.choice(corpus.utterances)
    semantic, new = corpus.tokens(said), flat(said.codes[voice])
    while rng.random() < 0.4 and len(semantic) < 500:  # a segment of more sentences
        said = rng.choice(corpus.utterances)
        semantic = np.concatenate([semantic, corpus.tokens(said)])
        new = np.concatenate([new, flat(said.codes[voice])])
        lacking = 2 * int(len(semantic) * RATIO / 2) - len(new)
        new = np.concatenate([new, new[-2:]])[: len(new) + max(0, lacking)]
    if told:
        spoken, codes = corpus.history(voice, rng)
        old_s = min(209, len(spoken) - len(spoken) % 2, int(codes.shape[1] * 2 // RATIO))
        semantic, old_c = np.concatenate([spoken[-old_s:], semantic]), flat(codes)[-round(old_s * RATIO) :][:-2]
    steps = range(0, len(new), 60)
    last_unmoved = max([n for n in steps if old_s + round(n / RATIO) <= 209], default=0)
    n = rng.choice([last_unmoved, last_unmoved, rng.choice(steps)])
    start = max(0, old_s + round(n / RATIO) - 209)
    window = semantic[start : start + 256]
    coarse = np.concatenate([old_c, new[: n + 60]])[max(0, len(old_c) + n - 630) :]
    at, context = shown(len(window), plain), np.full(256, COARSE_PAD)
    context[: len(window)] = window
    ids = np.concatenate([context[at], [COARSE_INFER], coarse])
    second = np.full(len(ids), -1)
    # Hidden codes of the envelope make the model read the semantic tokens: with all shown it learns to go on as before
    hidden = rng.choice([0.0, 0.0, 0.5, 0.9] if plain else [0.0, 0.0, 0.2])
    second[len(at) + 1 :: 2][1:][np.random.random((len(coarse) + 1) // 2 - 1) < hidden] = HIDDEN
    return ids, second, np.concatenate([at, 256 + np.arange(1 + len(coarse))]), len(at) + 1


ROWS = {"semantic": semantic_row, "coarse": coarse_row}


def collate(rows: list[Row]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
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


class Taught(nn.Module):
    """Bark's transformer with tables that are sums."""

    def __init__(self, stage: str, corpus: Corpus):
        super().__init__()
        self.stage = stage
        self.body = GPT(GPTConfig(1, 1, LAYERS, HEADS, WIDTH))
        for name, weight in self.body.named_parameters():
            if weight.dim() == 2:
                torch.nn.init.normal_(
                    weight, std=0.02 / (2 * LAYERS) ** 0.5 if name.endswith("c_proj.weight") else 0.02
                )
        if stage == "semantic":
            self.given, self.head = Table(text_parts(corpus), WIDTH), Table(semantic_parts_and_end(), WIDTH)
            start_semantic(self)
            self.ranges = [(0, SEMANTIC + 1)]
        else:
            books = Codebooks(corpus.state / "codebooks.npz")
            self.given = Table(code_parts(books, head=False), WIDTH, blend=code_blend(books))
            self.head = Table(code_parts(books, head=True), WIDTH, blend=code_blend(books))
            self.alike = alike(books)
            start_coarse(self)
            self.ranges = [(SEMANTIC, SEMANTIC + 1024), (SEMANTIC + 1024, SEMANTIC + 2048)]

    def loss(self, rows: list[Row]) -> tuple[Tensor, list[tuple[float, float, int]]]:
        """Mean cross entropy in nats; for each codebook its own sum, right first guesses, and count."""
        ids, second, positions, targets = collate(rows)
        x = self.given(ids.where(second != HIDDEN, COARSE_PAD)) + self.body.wpe(positions)
        most = max(row[3] for row in rows)
        if self.stage == "semantic":
            old = second[:, :most]
            x = torch.cat([x[:, :most] + self.given(old.clamp(min=0)) * (old >= 0)[..., None], x[:, most:]], 1)
        for block in self.body.h:
            q, k, v = block.attn.qkv(block.ln_1(x))
            x = x + block.attn.project(F.scaled_dot_product_attention(q, k, v, is_causal=True))
            x = x + block.mlp(block.ln_2(x))
        learnt = targets >= 0
        x, targets = self.body.ln_f(x[learnt]), targets[learnt]
        total, seen = torch.zeros(()), []
        for low, high in self.ranges:  # a coarse token is chosen from its own codebook only
            mine = (targets >= low) & (targets < high)
            logits = F.linear(x[mine], self.head.all(low, high)).float()
            right_ones = targets[mine] - low
            if self.stage == "coarse" and low == SEMANTIC:  # codes that sound alike are right, too
                mean = F.cross_entropy(logits, self.alike[right_ones], reduction="sum")
            else:
                mean = F.cross_entropy(logits, right_ones, reduction="sum")
            right = (logits.argmax(-1) == targets[mine] - low).sum()
            total = total + mean
            seen.append((mean.item(), right.item(), len(logits)))
        return total / len(targets), seen

    @torch.no_grad()
    def written_out(self) -> dict[str, Tensor]:
        """A checkpoint's names and plain tables."""
        plain = {
            name: weight for name, weight in self.body.state_dict().items() if "wte" not in name and "head" not in name
        }
        return plain | {"wte.weight": self.given.all(), "lm_head.weight": self.head.all()}


def semantic_parts_and_end() -> np.ndarray:
    return np.concatenate([semantic_parts(), np.full((1, 4), -1)])


def see_alike(body: GPT, heads: int, strength: float = 0.08) -> None:
    """In the first layer's first heads, queries start equal to keys: a position looks at what resembles it."""
    rows = heads * WIDTH // HEADS
    weight = body.h[0].attn.c_attn.weight.data  # (3 * WIDTH, WIDTH): q, k, v
    weight[:rows] = torch.randn(rows, WIDTH) * strength
    weight[WIDTH : WIDTH + rows] = weight[:rows]


def start_semantic(model: Taught) -> None:
    """Given tokens and the head start alike, and positions of text resemble their place's tokens."""
    tokens = semantic_parts()
    model.head.parts.data[: tokens.max() + 1] = model.given.parts.data[: tokens.max() + 1]
    places = model.given.parts.data[tokens[:, 3].min() : tokens[:, 3].max() + 1]
    model.body.wpe.weight.data[:256] += places.repeat(256 // len(places) + 1, 1)[:256] * 1.5
    see_alike(model.body, 2)


def start_coarse(model: Taught) -> None:
    """A coarse position resembles the semantic position spoken at that time."""
    model.head.parts.data[: len(model.given.parts) - 1] = model.given.parts.data[:-1][: len(model.head.parts)]
    body = model.body
    spoken_at = torch.cat([torch.arange(256.0), torch.arange(1024 - 256) / RATIO])  # in semantic tokens
    waves = torch.outer(spoken_at, torch.logspace(-2.0, 0.0, WIDTH // 2))  # periods 6 to 600 tokens
    sides = F.normalize(torch.randn(2, WIDTH), dim=1)  # semantic, coarse
    side_of = torch.cat([sides[:1].expand(256, -1), sides[1:].expand(1024 - 256, -1)])
    body.wpe.weight.data = (torch.cat([waves.sin(), waves.cos()], 1) + side_of * WIDTH**0.5) * 0.1
    see_alike(body, 2, strength=0.16)
    weight, wide = body.h[0].attn.c_attn.weight.data, WIDTH // HEADS
    rows = [*range(2 * wide), *range(WIDTH, WIDTH + 2 * wide)]
    weight[rows] -= weight[rows] @ torch.linalg.pinv(sides) @ sides  # by time alone, then by side:
    for first in (0, wide):  # the same two heads: coarse positions look at semantic ones, not at each other
        meet = F.normalize(torch.randn(wide), dim=0) * 0.6
        weight[first : first + wide] += torch.outer(meet, sides[1])
        weight[WIDTH + first : WIDTH + first + wide] += torch.outer(meet, sides[0])
    torch.nn.init.normal_(body.h[0].attn.c_proj.weight, std=0.03)


def batches(stage: str, corpus: Corpus, rng: random.Random, plain: bool) -> list[list[Row]]:
    """A few dozen batches of rows of like lengths, in random order."""
    rows = sorted((ROWS[stage](corpus, rng, plain) for _ in range(128)), key=lambda row: len(row[0]))
    made: list[list[Row]] = [[]]
    for row in rows:
        if made[-1] and len(row[0]) * (len(made[-1]) + 1) > TOKENS[stage]:
            made.append([])
        made[-1].append(row)
    rng.shuffle(made)
    return made


def main(state: pathlib.Path, stage: str, minutes: float) -> None:
    torch.manual_seed(1)
    rng, corpus = random.Random(time.time_ns()), Corpus(state)
    model, path, step = Taught(stage, corpus), state / f"{stage}.pt", 0
    if (first_weights := state / f"{stage}.first.pt").exists():  # of a checkpoint that was there before
        model.load_state_dict(torch.load(first_weights), strict=False)
    params = {name: p for name, p in model.named_parameters() if "wte" not in name and "lm_head" not in name}
    decayed = [p for name, p in params.items() if p.dim() == 2 and "parts" not in name]
    groups = [{"params": decayed, "weight_decay": 0.02}]
    groups.append({"params": [p for p in params.values() if all(p is not d for d in decayed)], "weight_decay": 0.0})
    optimiser = torch.optim.AdamW(groups, lr=PEAK_RATE, betas=(0.9, 0.98), fused=True)
    average = {name: p.detach().clone() for name, p in params.items()}
    if path.exists():
        held = torch.load(path)
        model.load_state_dict(held["last"], strict=False)
        optimiser.load_state_dict(held["optimiser"])
        step, average = held["step"], held["model"]

    def save() -> None:
        last = {name: p.detach() for name, p in params.items()}
        held = {"model": average, "last": last, "optimiser": optimiser.state_dict(), "step": step}
        torch.save(held, path.with_suffix(".partial"))
        path.with_suffix(".partial").rename(path)

    began, waiting, sums, first, tokens = time.time(), [], [], step, 0
    while (part := (time.time() - began) / (minutes * 60)) < 1:
        if not waiting:
            corpus.more()
            waiting = batches(stage, corpus, rng, part < PLAIN_SHARE)
        rate = (
            PEAK_RATE
            * min(1.0, (step - first + 1) / WARM_STEPS)
            * (0.02 + 0.98 * (0.5 + 0.5 * math.cos(math.pi * part)))
        )
        for group in optimiser.param_groups:
            group["lr"] = rate
        with torch.autocast("cpu", torch.bfloat16):
            loss, seen = model.loss(waiting.pop())
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(params.values(), 1.0)
        optimiser.step()
        step, sums = step + 1, [*sums, seen]
        tokens += sum(n for _, _, n in seen)
        if step % 5 == 0:
            for name, p in params.items():
                average[name].lerp_(p.detach(), 1 - min(AVERAGE, step / (step + 50)))
        if step % 50 == 0 or step in (1, 5, 20):
            print(step, f"{time.time() - began:.0f}s", f"{tokens / 1e6:.2f}M tokens", end=" ")
            for losses in zip(*sums, strict=True):
                total, right, n = np.sum(losses, 0)
                print(f"loss {total / n:.3f} right {right / n:.3f}", end=" ")
            print(flush=True)
            sums = []
        if step % 200 == 0:
            save()
    save()


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]), sys.argv[2], float(sys.argv[3]))
