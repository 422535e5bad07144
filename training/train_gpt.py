"""Steps 6 and 7: the causal transformers, semantic and coarse, on prompts laid out as at inference.

For most of a run only a few positions of the prompt's padding are shown (every token keeps its position), which costs
half as much; the last steps show all, because at inference padding is attended to. Resumes from STATE_DIR/{stage}.pt.

    python training/train_gpt.py STATE_DIR semantic|coarse MINUTES
"""

import pathlib
import random
import sys
import time
from collections.abc import Callable

import cycle
import numpy as np
import torch
import words
from codebooks import VOICES
from corpus import COARSE_INFER, COARSE_PAD, SEMANTIC, Corpus
from tables import (
    FIRST_FIRST,
    FIRST_NEXT,
    FIRST_PHONE,
    FIRST_PLACE,
    FIRST_SLOT,
    PHONES,
    Table,
    code_parts,
    semantic_parts,
    text_parts,
)
from torch import Tensor, nn
from torch.nn import functional as F

from pipeline.model.gpt import GPT, GPTConfig

SHAPES = {"semantic": GPTConfig(1, 1, 4, 4, 192), "coarse": GPTConfig(1, 1, 3, 4, 128)}
RATIO = 75 / 49.9 * 2  # coarse tokens a semantic token
WARM_STEPS, AVERAGE, PLAIN_SHARE = 60, 0.99, 0.8  # PLAIN_SHARE of a run's time leaves padding out
TOKENS = {"semantic": 1800, "coarse": 2400}  # of one step
JOINED = (0.5, 0.25, 0.15, 0.1)  # shares of texts of one to four sentences
MOST_TEXT_IDS, MOST_TOKENS, FEW_PADS = 44, 740, 12
HEARD = (0.5, 0.25, 0.25)  # of the voices, where a history tells it

# Heads of the semantic model that are taught where to look, by layer, and the weight of that in the loss: first at the
# word that is being said, then at the word whose phone comes next
GUIDED, GUIDANCE = {1: 1, 2: 3}, 0.2

# One training row: ids (P,), second ids summed on or -1 (P,), positions (P,), where what is learnt starts, first and
# last position of what the next token speaks or -1 (P, 2)
Row = tuple[np.ndarray, np.ndarray, np.ndarray, int, np.ndarray]


def shown(used: int, plain: bool) -> np.ndarray:
    """Positions of the first 256 that a row shows: those in use, and few or all of the padding."""
    padding = np.arange(used, 256)
    if plain and len(padding) > FEW_PADS:
        padding = np.sort(np.random.choice(padding, FEW_PADS, replace=False))
    return np.concatenate([np.arange(used), padding])


def semantic_row(corpus: Corpus, rng: random.Random, plain: bool) -> Row:
    """[text 256 + history 256 | infer | tokens | EOS]"""
    ids, spoken, spans = np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros((0, 2), np.int64)
    for _ in range(rng.choices((1, 2, 3, 4), JOINED)[0]):
        said = rng.choice(corpus.utterances)
        more, places = corpus.text_ids(said.text, rng)
        if len(ids) and (len(ids) + len(more) > MOST_TEXT_IDS or len(spoken) + len(said.base) > MOST_TOKENS):
            break
        spoken = np.concatenate([spoken, said.semantic(places + len(ids))])
        spans = np.concatenate([spans, said.spans(places + len(ids))])
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
    aims = np.concatenate([np.full((len(at), 2), -1), spans, np.full((2, 2), -1)])
    positions = np.concatenate([at, 256 + np.arange(len(tokens))])
    return np.concatenate([text[at], tokens]), second, positions, len(at) + 1, aims


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
    positions = np.concatenate([at, 256 + np.arange(1 + len(coarse))])
    return ids, second, positions, len(at) + 1, np.full((len(ids), 2), -1)


ROWS = {"semantic": semantic_row, "coarse": coarse_row}


def collate(rows: list[Row]) -> tuple[Tensor, ...]:
    """ids, second, positions, targets (all (B, P)), padded on the right with what is never learnt (-100); aims."""
    longest = max(len(row[0]) for row in rows)
    ids, second, positions = (
        torch.from_numpy(np.stack([np.pad(row[k], (0, longest - len(row[k])), constant_values=fill) for row in rows]))
        for k, fill in ((0, 0), (1, -1), (2, 0))
    )
    targets = torch.full((len(rows), longest), -100)
    for b, (row, _, _, start, _) in enumerate(rows):
        targets[b, start - 1 : len(row) - 1] = torch.from_numpy(row[start:])
    aims = [np.pad(row[4], ((0, longest - len(row[4])), (0, 0)), constant_values=-1) for row in rows]
    return ids, second, positions, targets, torch.from_numpy(np.stack(aims))


def missed(q: Tensor, k: Tensor, heads: int, aims: Tensor) -> Tensor:
    """How little the first heads look at their aims (B, P, 2): mean negative log of the attention there."""
    logits = (q[:, :heads] @ k[:, :heads].transpose(2, 3)).float() * q.shape[-1] ** -0.5
    at = torch.arange(logits.shape[-1])
    shares = logits.masked_fill(at[None] > at[:, None], -torch.inf).softmax(-1)
    inside = (at >= aims[..., :1]) & (at <= aims[..., 1:])  # (B, P, P)
    there = (shares * inside[:, None]).sum(-1).transpose(1, 2)[aims[..., 0] >= 0]
    return -there.clamp(min=1e-6).log().mean()


class Taught(nn.Module):
    """Bark's transformer with tables that are sums."""

    def __init__(self, stage: str, corpus: Corpus):
        super().__init__()
        shape = SHAPES[stage]
        self.stage, self.body = stage, GPT(shape)
        self.read_pitch: Callable[[Tensor], None] = lambda hidden: None  # told what the head of pitch reads
        for name, weight in self.body.named_parameters():
            if weight.dim() == 2:
                deep = (2 * shape.n_layer) ** 0.5 if name.endswith("c_proj.weight") else 1
                torch.nn.init.normal_(weight, std=0.02 / deep)
        if stage == "semantic":
            self.given, self.head = (
                Table(text_parts(corpus), shape.n_embd),
                Table(semantic_parts_and_end(), shape.n_embd),
            )
            start_semantic(self, corpus.text_pad)
            self.ranges = [(0, SEMANTIC + 1)]
        else:
            self.given = Table(code_parts(head=False), shape.n_embd)
            self.head = Table(code_parts(head=True), shape.n_embd)
            start_coarse(self)
            self.ranges = [(SEMANTIC, SEMANTIC + 1024), (SEMANTIC + 1024, SEMANTIC + 2048)]

    def loss(self, rows: list[Row]) -> tuple[Tensor, list[tuple[float, float, int]]]:
        """Mean cross entropy in nats; for each codebook its own sum, right first guesses, and count."""
        ids, second, positions, targets, aims = collate(rows)
        x = self.given(ids) + self.body.wpe(positions)
        most = max(row[3] for row in rows)
        if self.stage == "semantic":
            old = second[:, :most]
            x = torch.cat([x[:, :most] + self.given(old.clamp(min=0)) * (old >= 0)[..., None], x[:, most:]], 1)
        guidance = torch.zeros(())
        for n, block in enumerate(self.body.h):
            q, k, v = block.attn.qkv(block.ln_1(x))
            if self.stage == "semantic" and n in GUIDED:
                guidance = guidance + missed(q, k, GUIDED[n], aims if n == max(GUIDED) else aims.roll(1, 1))
            x = x + block.attn.project(F.scaled_dot_product_attention(q, k, v, is_causal=True))
            x = x + block.mlp(block.ln_2(x))
        learnt = targets >= 0
        x, targets = self.body.ln_f(x[learnt]), targets[learnt]
        total, seen = torch.zeros(()), []
        for low, high in self.ranges:  # a coarse token is chosen from its own codebook only
            mine = (targets >= low) & (targets < high)
            if low > SEMANTIC:
                self.read_pitch(x[mine])
            logits = F.linear(x[mine], self.head.all(low, high)).float()
            right_ones = targets[mine] - low
            mean = F.cross_entropy(logits, right_ones, reduction="sum")
            right = (logits.argmax(-1) == right_ones).sum()
            total = total + mean
            seen.append((mean.item(), right.item(), len(logits)))
        if self.stage == "semantic":
            seen.append((guidance.item(), 0, 1))
        return total / len(targets) + GUIDANCE * guidance, seen

    @torch.no_grad()
    def written_out(self) -> dict[str, Tensor]:
        """A checkpoint's names and plain tables."""
        plain = {
            name: weight for name, weight in self.body.state_dict().items() if "wte" not in name and "head" not in name
        }
        return plain | {"wte.weight": self.given.all(), "lm_head.weight": self.head.all()}


def semantic_parts_and_end() -> np.ndarray:
    return np.concatenate([semantic_parts(), np.full((1, 5), -1)])


def see_alike(body: GPT, heads: int, strength: float = 0.08) -> None:
    """In the first layer's first heads, queries start equal to keys: a position looks at what resembles it."""
    width = body.config.n_embd
    rows = heads * width // body.config.n_head
    weight = body.h[0].attn.c_attn.weight.data  # (3 * width, width): q, k, v
    weight[:rows] = torch.randn(rows, width) * strength
    weight[width : width + rows] = weight[:rows]


def start_semantic(model: Taught, text_pad: int) -> None:
    """What the model has to find out is laid out: which word is said, and which of its phones comes next.

    A word's phones lie in blocks of 14 dimensions, by how many follow, its first phone in one more; a token tells in as
    many dimensions which of them comes next, and in others where in the text. The guided heads of the third layer bring
    that word's blocks, its first hidden units pass the block that is asked for to the dimensions from which the head
    reads a phone.
    """
    wide, blocks = 14, words.SLOTS + 1  # the last block is the first phone
    out = blocks * wide
    asked, place, after, flags = out + wide, out + 30, out + 48, out + 66  # places on 18 dimensions each
    rest = flags + 2  # phone and length: 26 dimensions
    given, head, body = model.given.parts.data, model.head.parts.data, model.body
    width, text = body.config.n_embd, slice(0, 256)
    codes = F.normalize(torch.randn(PHONES, wide), dim=1) * 0.5
    given.normal_(0, 0.01)
    given[:FIRST_SLOT, rest:].normal_(0, 0.08)
    for part in range(2 * words.SLOTS):
        last, slot = divmod(part, words.SLOTS)
        given[FIRST_SLOT + part, asked + (slot - last) % blocks] = (
            0.5  # slot -1, the next word's first phone, is the last
        )
    for n, phones in enumerate(given[FIRST_PHONE:FIRST_FIRST].split(PHONES)):
        phones[:, words.slot_of(n) * wide :][:, :wide] = codes[: len(phones)]
    first = given[FIRST_FIRST:-1, words.SLOTS * wide :][:, :wide]
    first[:] = codes.repeat_interleave(words.SLOTS, 0)[: len(first)]
    places = F.normalize(torch.randn(words.PLACES, 18), dim=1) * 0.5
    given[FIRST_PLACE:FIRST_NEXT, place : place + 18] = places
    given[FIRST_NEXT:FIRST_PHONE, after : after + 18] = places
    wpe = body.wpe.weight.data
    wpe[text, place : place + 18] += places.repeat(256 // words.PLACES + 1, 1)[:256]
    wpe[text, flags], wpe[256:, flags + 1] = 0.5, 0.5
    model.given.rows.data[text_pad, flags] = -0.5
    head[:FIRST_PHONE] = given[:FIRST_PHONE]
    head[:PHONES, out : out + wide] = codes
    see_alike(body, 2)
    per_head = width // body.config.n_head
    for layer, heads in GUIDED.items():
        attention, wanted = body.h[layer].attn, after if layer == max(GUIDED) else place
        weight, rows = attention.c_attn.weight.data, heads * per_head
        for first in range(0, rows, per_head):
            q, k = weight[first : first + per_head], weight[width + first : width + first + per_head]
            q.normal_(0, 0.01), k.normal_(0, 0.01)
            q[:18, wanted : wanted + 18], k[:18, place : place + 18] = torch.eye(18) * 1.2, torch.eye(18) * 1.2
            q[18, flags + 1], k[18, flags] = 2.0, 2.0  # from tokens to text
        weight[2 * width : 2 * width + rows] = torch.eye(width)[:rows]
        attention.c_proj.weight.data[:rows, :rows] = torch.eye(rows) * 0.3
    attention.c_proj.weight.data[out:rows, :rows] = 0  # a word's place is not this token's
    mlp = body.h[max(GUIDED)].mlp
    for unit in range(2 * blocks * wide):
        (block, at), sign = divmod(unit // 2, wide), 1 - unit % 2 * 2
        row = mlp.c_fc.weight.data[unit]
        row.zero_()
        row[block * wide + at] = sign
        row[asked : asked + blocks] = -3.0
        row[asked + block] = 0.0
        mlp.c_proj.weight.data[:, unit] = 0
        mlp.c_proj.weight.data[out + at, unit] = 0.5 * sign


def start_coarse(model: Taught) -> None:
    """A coarse position resembles the semantic position spoken at that time."""
    model.head.parts.data[: len(model.given.parts) - 1] = model.given.parts.data[:-1][: len(model.head.parts)]
    body, width = model.body, SHAPES["coarse"].n_embd
    spoken_at = torch.cat([torch.arange(256.0), torch.arange(1024 - 256) / RATIO])  # in semantic tokens
    waves = torch.outer(spoken_at, torch.logspace(-2.0, 0.0, width // 2))  # periods 6 to 600 tokens
    sides = F.normalize(torch.randn(2, width), dim=1)  # semantic, coarse
    side_of = torch.cat([sides[:1].expand(256, -1), sides[1:].expand(1024 - 256, -1)])
    body.wpe.weight.data = (torch.cat([waves.sin(), waves.cos()], 1) + side_of * width**0.5) * 0.1
    see_alike(body, 2, strength=0.16 * (192 / width) ** 0.5)
    weight, wide = body.h[0].attn.c_attn.weight.data, width // SHAPES["coarse"].n_head
    rows = [*range(2 * wide), *range(width, width + 2 * wide)]
    weight[rows] -= weight[rows] @ torch.linalg.pinv(sides) @ sides  # by time alone, then by side:
    for first in (0, wide):  # the same two heads: coarse positions look at semantic ones, not at each other
        meet = F.normalize(torch.randn(wide), dim=0) * 0.6
        weight[first : first + wide] += torch.outer(meet, sides[1])
        weight[width + first : width + first + wide] += torch.outer(meet, sides[0])
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
    params = {name: p for name, p in model.named_parameters() if "wte" not in name and "lm_head" not in name}
    decayed = [p for name, p in params.items() if p.dim() == 2 and "parts" not in name]
    groups = [{"params": decayed, "weight_decay": 0.02}]
    groups.append({"params": [p for p in params.values() if all(p is not d for d in decayed)], "weight_decay": 0.0})
    optimiser = torch.optim.AdamW(groups, betas=(0.9, 0.98), fused=True)
    average = {name: p.detach().clone() for name, p in params.items()}
    if path.exists():
        held = torch.load(path)
        model.load_state_dict(held["last"], strict=False)
        optimiser.load_state_dict(held["optimiser"])
        step, average = held["step"], held["model"]

    def save() -> None:
        last = {name: p.detach() for name, p in params.items()}
        cycle.save(path, {"model": average, "last": last, "optimiser": optimiser.state_dict(), "step": step})

    began, waiting, sums, first, tokens = time.time(), [], [], step, 0
    while (part := (time.time() - began) / (minutes * 60)) < 1:
        if not waiting:
            corpus.more()
            waiting = batches(stage, corpus, rng, part < PLAIN_SHARE)
        for group in optimiser.param_groups:
            group["lr"] = cycle.learning_rate(part, step - first, WARM_STEPS, first > 0)
        with torch.autocast("cpu", torch.bfloat16):
            loss, seen = model.loss(waiting.pop())
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(params.values(), 1.0)
        optimiser.step()
        step, sums = step + 1, [*sums, seen]
        tokens += seen[0][2]
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
