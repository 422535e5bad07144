"""Embeddings and heads that are sums: of what an id is made of, and of a row of its own that starts at zero.

A word is its phones, a semantic token its phone, half, slot and place, a code its class or its step of pitch and phase.
What is learnt of a part holds for all ids with that part, so a word that training never spoke is said like others. A
checkpoint has plain tables: the sums are written out at export.
"""

import numpy as np
import torch
import words
from codebooks import CLASSES, ENVELOPE, FIRST, SIZE, VOICES, WEIGHT, Codebooks, step_and_phase
from corpus import COARSE_VOCABULARY, LONGEST_WORD, TEXT_OFFSET, Corpus, pronunciations
from torch import Tensor, nn
from torch.nn import functional as F
from vocoder import GRID


class Table(nn.Module):
    """(V, width) rows; `made_of` (V, K) are indices of parts, -1 for none; `blend` (V, M) amounts of other parts."""

    def __init__(self, made_of: np.ndarray, width: int, spread: float = 0.05, blend: np.ndarray | None = None):
        super().__init__()
        count = int(made_of.max()) + 1
        self.register_buffer("made_of", torch.from_numpy(np.where(made_of < 0, count, made_of)))
        self.parts = nn.Parameter(torch.randn(count + 1, width) * spread)
        alone = torch.from_numpy((made_of < 0).all(1))
        self.rows = nn.Parameter(torch.randn(len(made_of), width) * spread * alone[:, None])
        blend = np.zeros((len(made_of), 1), np.float32) if blend is None else blend
        self.register_buffer("blend", torch.from_numpy(blend))
        self.blended = nn.Parameter(torch.randn(blend.shape[1], width) * spread / blend.shape[1] ** 0.5)

    def forward(self, ids: Tensor) -> Tensor:
        """ids (B, T) -> (B, T, width)"""
        sums = F.embedding_bag(self.made_of[ids.flatten()], self.parts, mode="sum", padding_idx=len(self.parts) - 1)
        return F.embedding(ids, self.rows) + sums.view(*ids.shape, -1) + F.embedding(ids, self.blend) @ self.blended

    def all(self, low: int = 0, high: int | None = None) -> Tensor:
        made_of = self.made_of[low:high]
        sums = F.embedding_bag(made_of, self.parts, mode="sum", padding_idx=len(self.parts) - 1)
        return self.rows[low:high] + sums + self.blend[low:high] @ self.blended


def semantic_parts() -> np.ndarray:
    """(SEMANTIC, 4)"""
    symbol, half, slot, place = words.parts_of(np.arange(words.SEMANTIC))
    phones = len(words.SYMBOLS) * words.HALVES
    return np.stack([symbol, symbol * words.HALVES + half + 100, 100 + phones + slot, 110 + phones + place], 1)


def text_parts(corpus: Corpus) -> np.ndarray:
    """(semantic vocabulary, LONGEST_WORD): first the semantic tokens, then words as phones by their place."""
    tokens = semantic_parts()
    made_of = np.full((corpus.semantic_vocabulary, LONGEST_WORD), -1)
    made_of[: len(tokens), :4] = tokens
    first = tokens.max() + 1
    for word, phones in pronunciations(corpus.state, corpus.tokenizer).items():
        at = first + np.arange(len(phones)) * len(words.SYMBOLS) + np.array(phones, int)
        made_of[TEXT_OFFSET + corpus.tokenizer.token_to_id(word), : len(phones)] = at
    return made_of


def code_parts(books: Codebooks, head: bool) -> np.ndarray:
    """(COARSE_VOCABULARY, 4) with semantic tokens first. A code of pitch is its step and phase; for the head, its step
    and the phase before: what is known of the phase before tells the next for each step."""
    tokens = semantic_parts()
    made_of = np.full((COARSE_VOCABULARY, 4), -1)
    made_of[: len(tokens)] = tokens
    first = tokens.max() + 1
    codes = np.arange(SIZE)
    voice = np.searchsorted([*FIRST.values()], codes, side="right") - 1
    made_of[len(tokens) : len(tokens) + SIZE, 0] = first + books.code_class
    made_of[len(tokens) : len(tokens) + SIZE, 1] = first + CLASSES + voice
    first += CLASSES + len(VOICES)
    step, phase = step_and_phase(codes)
    if head:
        phase = (phase - step) % GRID
    made_of[len(tokens) + SIZE : len(tokens) + 2 * SIZE, 0] = first + step
    made_of[len(tokens) + SIZE : len(tokens) + 2 * SIZE, 1] = first + 100 + np.where(codes > 0, phase, GRID)
    return made_of


def code_blend(books: Codebooks) -> np.ndarray:
    """(COARSE_VOCABULARY, ENVELOPE + 1): a code of the envelope is its envelope and, for the head, half its square: the
    model says an envelope, and codes near it are likely. It need not learn what 1024 codes are one by one."""
    blend = np.zeros((COARSE_VOCABULARY, ENVELOPE + 1), np.float32)
    book = books.books[0][:, :ENVELOPE] * WEIGHT
    book = book - book.mean(0)
    square = (book**2).sum(1)
    blend[words.SEMANTIC : words.SEMANTIC + SIZE, :-1] = book / book.std()
    blend[words.SEMANTIC : words.SEMANTIC + SIZE, -1] = (square - square.mean()) / square.std()
    return blend


def alike(books: Codebooks, blur: float = 1.5) -> Tensor:
    """(SIZE, SIZE): for each code of the envelope, how much of it each code of its voice counts as right."""
    book = torch.from_numpy(books.books[0][:, :ENVELOPE] * WEIGHT)
    voice = torch.from_numpy(np.searchsorted([*FIRST.values()], np.arange(SIZE), side="right"))
    near = -torch.cdist(book, book).square() / 2 / blur
    return near.masked_fill(voice[:, None] != voice[None], -torch.inf).softmax(1)
