"""Sentences through the trained transformers and the decoder, in batches: the measure of training, not the product.

All sentences of a batch share the voice, so their prompts have the same lengths and need no mask (as in Bark, padding
inside a prompt is part of it).

    python training/say.py STATE_DIR [sentences a voice]     word error rates of the whole chain on held-out sentences
"""

import pathlib
import sys

import numpy as np
import soundfile
import torch
import train_decoder
import train_fine
import train_gpt
import vocoder
from codebooks import Codebooks
from corpus import COARSE_INFER, COARSE_PAD, SEMANTIC, Corpus
from listen import HELD_OUT
from recognise import errors, hear, words
from torch import Tensor
from torch.nn import functional as F

MIN_EOS_P, MOST_TOKENS = 0.2, 400


class Memory:
    """Keys and values so far, by layer; x (B, T, C) in, hidden (B, C) of the last position out."""

    def __init__(self, model):
        self.model, self.held = model, [None] * len(model.h)

    def feed(self, x: Tensor) -> Tensor:
        for layer, block in enumerate(self.model.h):
            q, k, v = block.attn.qkv(block.ln_1(x))
            if (old := self.held[layer]) is not None:
                k, v = torch.cat([old[0], k], 2), torch.cat([old[1], v], 2)
            self.held[layer] = (k, v)
            x = x + block.attn.project(F.scaled_dot_product_attention(q, k, v, is_causal=old is None))
            x = x + block.mlp(block.ln_2(x))
        return self.model.ln_f(x[:, -1])


def draw(logits: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """(B, V) → chosen (B,) and probabilities (B, V)."""
    p = torch.softmax(logits / temperature, -1)
    return torch.multinomial(p, 1)[:, 0], p


def semantic(
    model, corpus: Corpus, texts: list[str], old: np.ndarray | None, temperature: float
) -> tuple[list[np.ndarray], list[bool]]:
    text, hist = torch.full((len(texts), 256), corpus.text_pad), torch.full((256,), SEMANTIC)
    for row, said in zip(text, texts, strict=False):
        ids = corpus.text_ids(said)[0]
        row[: len(ids)] = torch.from_numpy(ids)
    if old is not None:
        hist[: min(256, len(old))] = torch.from_numpy(old[-256:])
    x = torch.cat([model.wte(text) + model.wte(hist), model.wte(torch.full((len(texts), 1), corpus.semantic_infer))], 1)
    memory, out, done = Memory(model), [[] for _ in texts], [False] * len(texts)
    x = memory.feed(x + model.wpe.weight[:257])
    for n in range(MOST_TOKENS):
        token, p = draw(F.linear(x, model.lm_head.weight[: SEMANTIC + 1]), temperature)
        for i in range(len(texts)):
            done[i] = done[i] or int(token[i]) == SEMANTIC or float(p[i, -1]) >= MIN_EOS_P
            if not done[i]:
                out[i].append(int(token[i]))
        if all(done):
            break
        x = memory.feed((model.wte(token) + model.wpe.weight[257 + n])[:, None])
    return [np.array(o) for o in out], done


def coarse(model, spoken: list[np.ndarray], old: dict | None, temperature: float) -> list[np.ndarray]:
    """Semantic tokens → codes (2, T), Bark's windows."""
    ratio, old_s, old_c = train_gpt.RATIO, np.zeros(0, np.int64), np.zeros(0, np.int64)
    if old is not None:
        flat = (old["coarse_prompt"] + np.array([[SEMANTIC], [SEMANTIC + 1024]])).T.reshape(-1)
        count = min(209, len(old["semantic_prompt"]) // 2 * 2, int(len(flat) // ratio))
        old_s, old_c = old["semantic_prompt"][-count:], flat[-round(count * ratio) :][:-2]
    all_s = [np.concatenate([old_s, s]) for s in spoken]
    steps = [round(int(len(s) * ratio / 2) * 2) for s in spoken]
    made = torch.from_numpy(old_c).repeat(len(spoken), 1)
    for n in range(0, max(steps), 60):
        rows = [i for i in range(len(spoken)) if steps[i] > n]
        start = max(0, len(old_s) + round(n / ratio) - 209)
        prompt = torch.full((len(rows), 257), COARSE_PAD)
        prompt[:, -1] = COARSE_INFER
        for r, i in enumerate(rows):
            part = all_s[i][start : start + 256]
            prompt[r, : len(part)] = torch.from_numpy(part)
        ids, fresh, memory = torch.cat([prompt, made[rows][:, -630:]], 1), [], Memory(model)
        x = memory.feed(model.wte(ids) + model.wpe.weight[: ids.shape[1]])
        for j in range(60):
            low = SEMANTIC + 1024 * (j % 2)
            fresh.append(draw(F.linear(x, model.lm_head.weight[low : low + 1024]), temperature)[0] + low)
            x = memory.feed((model.wte(fresh[-1]) + model.wpe.weight[ids.shape[1] + j])[:, None])
        grown = torch.zeros(len(spoken), 60, dtype=torch.long)
        grown[rows] = torch.stack(fresh, 1)
        made = torch.cat([made, grown], 1)
    made = made[:, len(old_c) :]
    return [
        (made[i, : steps[i]].reshape(-1, 2).T.numpy() - np.array([[SEMANTIC], [SEMANTIC + 1024]]))
        for i in range(len(spoken))
    ]


def fine(model, rough: np.ndarray, old: np.ndarray | None, temperature: float = 0.5) -> np.ndarray:
    """codes (2, T) → (8, T); history and utterance must fit one window."""
    before = np.zeros((8, 0), np.int64) if old is None else old[:, -512:]
    known, total = before.shape[1], before.shape[1] + rough.shape[1]
    assert total <= 1024, "this measure is for short sentences"
    codes = np.full((8, 1024), 1024)
    codes[:, :known] = before
    codes[:2, known:total] = rough
    x = torch.from_numpy(codes.T.copy())[None]
    for k in range(2, 8):
        x[0, known:, k] = draw(model(x, k, known)[0], temperature)[0]
    return x[0].T.numpy()[:, known:total]


def load(state: pathlib.Path, corpus: Corpus) -> dict:
    models = {
        "semantic": train_gpt.build("semantic", corpus),
        "coarse": train_gpt.build("coarse", corpus),
        "fine": train_fine.build(state),
        "decoder": train_decoder.build(),
    }
    for name, model in models.items():
        model.load_state_dict(torch.load(state / f"{name}.pt")["model"])
        model.eval()
    return models


@torch.no_grad()
def main(state: pathlib.Path, count: int = 12, temperature: float = 0.7) -> None:
    torch.set_num_threads(1), torch.manual_seed(0)
    corpus, books = Corpus(state), Codebooks(state / "codebooks.npz")
    models = load(state, corpus)
    texts = HELD_OUT.read_text().splitlines()[:: max(1, 60 // count)]
    for voice in [*vocoder.VOICES, None]:
        path = state / "voices" / f"{voice}.npz"
        old = dict(np.load(path)) if voice else None
        spoken, ended = semantic(models["semantic"], corpus, texts, old and old["semantic_prompt"], temperature)
        rough = coarse(models["coarse"], spoken, old, temperature)
        wrong, said, teacher_wrong = 0, 0, 0
        for text, part in zip(texts, rough, strict=False):
            codes = fine(models["fine"], part, old and old["fine_prompt"].astype(np.int64))
            normal = books.decode(codes)
            samples = models["decoder"](normal.T[None])[0, 0].numpy()
            wrong, said = wrong + errors(words(text), hear(samples, 24_000)), said + len(words(text))
            teacher_wrong += errors(words(text), hear(vocoder.synthesise(books.latents(normal).astype(float)), 24_000))
        soundfile.write(state / f"say_{voice}.wav", samples, 24_000)
        print(
            voice,
            f"{said} words, wrong {wrong / said:.3f}, with the teacher as decoder {teacher_wrong / said:.3f},",
            f"ended {sum(ended)} of {len(texts)}",
            flush=True,
        )


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]), *map(int, sys.argv[2:]))
