"""Embeddings and heads that are sums: of what an id is made of, and of a row of its own that starts at zero.

A word is its phones; a semantic token its phone, tokens left, slot and place; a code its phone, tokens left and voice,
or its step of pitch and phase.
What is learnt of a part holds for all ids with that part, so a word that training never spoke is said like others. A
checkpoint has plain tables: the sums are written out at export.
"""

import numpy as np
import torch
import words
from codebooks import CLASSES, LEFT, SIZE, VOICES, step_and_phase
from corpus import COARSE_VOCABULARY, LONGEST_WORD, TEXT_OFFSET, Corpus, pronunciations
from torch import Tensor, nn
from torch.nn import functional as F
from vocoder import GRID


class Table(nn.Module):
    """(V, width) rows; `made_of` (V, K) are indices of parts, -1 for none."""

    def __init__(self, made_of: np.ndarray, width: int, spread: float = 0.05):
        super().__init__()
        count = int(made_of.max()) + 1
        self.register_buffer("made_of", torch.from_numpy(np.where(made_of < 0, count, made_of)))
        self.parts = nn.Parameter(torch.randn(count + 1, width) * spread)
        alone = torch.from_numpy((made_of < 0).all(1))
        self.rows = nn.Parameter(torch.randn(len(made_of), width) * spread * alone[:, None])

    def forward(self, ids: Tensor) -> Tensor:
        """ids (B, T) -> (B, T, width)"""
        sums = F.embedding_bag(self.made_of[ids.flatten()], self.parts, mode="sum", padding_idx=len(self.parts) - 1)
        return F.embedding(ids, self.rows) + sums.view(*ids.shape, -1)

    def all(self, low: int = 0, high: int | None = None) -> Tensor:
        sums = F.embedding_bag(self.made_of[low:high], self.parts, mode="sum", padding_idx=len(self.parts) - 1)
        return self.rows[low:high] + sums


PHONES = len(words.SYMBOLS)
# Parts of semantic tokens: phone; phone with how much of it is left; slot, of a phone's last token apart; place; the
# place of what comes next
FIRST_SLOT = PHONES * (words.LEFT + 1)
FIRST_PLACE = FIRST_SLOT + 2 * words.SLOTS
FIRST_NEXT = FIRST_PLACE + words.PLACES
FIRST_PHONE = FIRST_NEXT + words.PLACES  # of words: the last phone, the one before it, ...
FIRST_FIRST = FIRST_PHONE + LONGEST_WORD * PHONES  # a word's first phone, with its slot


def semantic_parts() -> np.ndarray:
    """(SEMANTIC, 5)"""
    symbol, left, slot, place = words.parts_of(np.arange(words.SEMANTIC))
    both, last = PHONES + symbol * words.LEFT + left - 1, left == 1
    after = (place + (last & (slot == 0))) % words.PLACES
    parts = [symbol, both, FIRST_SLOT + slot + words.SLOTS * last, FIRST_PLACE + place, FIRST_NEXT + after]
    return np.stack(parts, 1)


def text_parts(corpus: Corpus) -> np.ndarray:
    """(semantic vocabulary, LONGEST_WORD + 1): first the semantic tokens, then words as phones by how many follow."""
    tokens = semantic_parts()
    made_of = np.full((corpus.semantic_vocabulary, LONGEST_WORD + 1), -1)
    made_of[: len(tokens), : tokens.shape[1]] = tokens
    pauses = {mark: [words.INDEX[mark]] for mark in ",.?!"}
    spoken = pronunciations(corpus.state / "pronunciations.json", corpus.tokenizer) | pauses
    for word, phones in spoken.items():
        made_of[TEXT_OFFSET + corpus.tokenizer.token_to_id(word)] = word_parts(phones)
    return made_of


def word_parts(phones: list[int]) -> np.ndarray:
    """(LONGEST_WORD + 1,)"""
    row = np.full(LONGEST_WORD + 1, -1)
    row[: len(phones)] = FIRST_PHONE + np.arange(len(phones))[::-1] * PHONES + np.array(phones, int)
    if phones:
        row[-1] = FIRST_FIRST + phones[0] * words.SLOTS + words.slot_of(len(phones) - 1)
    return row


def code_parts(head: bool) -> np.ndarray:
    """(COARSE_VOCABULARY, 5) with semantic tokens first. A code of pitch is its step and phase; for the head, its step
    and the phase before: what is known of the phase before tells the next for each step."""
    tokens = semantic_parts()
    made_of = np.full((COARSE_VOCABULARY, tokens.shape[1]), -1)
    made_of[: len(tokens)] = tokens
    first = FIRST_PHONE
    voice, said = np.divmod(np.arange(len(VOICES) * CLASSES), CLASSES)
    symbol, left = np.divmod(said, LEFT)
    own = made_of[len(tokens) : len(tokens) + len(said)]
    own[:, 0], own[:, 1], own[:, 2] = symbol, first + symbol * LEFT + left, first + CLASSES + voice
    first += CLASSES + len(VOICES)
    codes = np.arange(SIZE)
    step, phase = step_and_phase(codes)
    if head:
        phase = (phase - step) % GRID
    made_of[len(tokens) + SIZE : len(tokens) + 2 * SIZE, 0] = first + step
    made_of[len(tokens) + SIZE : len(tokens) + 2 * SIZE, 1] = first + 100 + np.where(codes > 0, phase, GRID)
    return made_of
