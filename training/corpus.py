"""What the three transformers learn from: token ids of every utterance, the tokenizer, this checkpoint's ids."""

import collections
import pathlib
import random
import re
from dataclasses import dataclass

import numpy as np
import torch
import words
from codebooks import MONO
from speak import PHONES
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

SEMANTIC = words.SEMANTIC  # semantic tokens; this id itself is pad and EOS
TEXT_OFFSET = SEMANTIC + 1  # id 0 of the tokenizer
COARSE_PAD, COARSE_INFER = SEMANTIC + 2048, SEMANTIC + 2049
COARSE_VOCABULARY = SEMANTIC + 2050
WHOLE_FROM, SUFFIXES = 4, ["##s", "##ed", "##ing", "##er", "##ly", "##'s", "##'t", "##'ll"]


def make_tokenizer(state: pathlib.Path) -> Tokenizer:
    """WordPiece: every word heard at least WHOLE_FROM times is one token, others fall into suffixes and letters."""
    count = collections.Counter(re.findall(r"[a-z]+", (state / "sentences.txt").read_text().lower()))
    letters = list("abcdefghijklmnopqrstuvwxyz0123456789',.?!-;:")
    whole = sorted(w for w, n in count.items() if n >= WHOLE_FROM and len(w) > 1)
    pieces = ["[UNK]", *letters, *(f"##{c}" for c in letters), *SUFFIXES, *whole]
    vocabulary = {piece: i for i, piece in enumerate(dict.fromkeys(pieces))}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]", max_input_chars_per_word=60))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.save(str(state / "tokenizer.json"))
    return tokenizer


@dataclass
class Utterance:
    text: str
    base: np.ndarray  # (n,) semantic tokens but for their word's place
    word: np.ndarray  # (n,) number of the word
    codes: np.ndarray  # (8, T) of the first voice, T = 75/49.9 n

    def semantic(self, places: np.ndarray) -> np.ndarray:
        """(n,) tokens, given each word's place among the text ids."""
        return self.base + places[self.word] % words.PLACES

    def codes_of(self, voice: int) -> np.ndarray:
        """(8, T): what is said is the same in every voice."""
        return self.codes + voice * MONO * (np.arange(len(self.codes)) == 0)[:, None]


class Corpus:
    """All utterances whose codes are made; some words can be spelled, so that spelling is learnt too."""

    def __init__(self, state: pathlib.Path, first_shard: int = 0):
        self.state = state
        path = state / "tokenizer.json"
        self.tokenizer = Tokenizer.from_file(str(path)) if path.exists() else make_tokenizer(state)
        self.text_pad = TEXT_OFFSET + self.tokenizer.get_vocab_size()
        self.semantic_infer = self.text_pad + 1
        self.semantic_vocabulary = self.semantic_infer + 1
        self.utterances: list[Utterance] = []
        said = words.pronunciations(state, (state / "sentences.txt").read_text().splitlines())
        for path in sorted((state / "codes").glob("???.npy"))[first_shard:]:
            held, codes = np.load(state / "speech" / f"{path.stem}.npz"), np.load(path)
            texts, tokens, at, token_at = (held[k] for k in ("text", "tokens", "offset", "token_offset"))
            for i, text in enumerate(map(str, texts)):
                base, word = words.located(tokens[token_at[i] : token_at[i + 1]].astype(np.int64), text, said)
                self.utterances.append(Utterance(text, base, word, codes[:, at[i] : at[i + 1]].astype(np.int64)))

    def text_ids(
        self, text: str, rng: random.Random | None = None, spelled: float = 0.1
    ) -> tuple[np.ndarray, np.ndarray]:
        """Ids with offset (T,), and where each word of text.split() begins in them; rng spells a share of the words."""
        ids: list[int] = []
        places = []
        for word in text.split():
            places.append(len(ids))
            for piece in re.findall(r"[A-Za-z]+|[^A-Za-z]", word):
                if rng and piece.isalpha() and rng.random() < spelled:
                    ids += [
                        self.tokenizer.token_to_id(c)
                        for c in [piece[0].lower(), *(f"##{c}" for c in piece[1:].lower())]
                    ]
                else:
                    ids += self.tokenizer.encode(piece, add_special_tokens=False).ids
        return np.array(ids[:256], np.int64) + TEXT_OFFSET, np.array(places)

    def tokens(self, said: Utterance) -> np.ndarray:
        """(n,) semantic tokens as the text is tokenized at inference."""
        return said.semantic(self.text_ids(said.text)[1])

    def history(self, voice: int, rng: random.Random) -> tuple[np.ndarray, np.ndarray]:
        """Semantic tokens (n,) and codes (8, 1.5 n) of one utterance in a voice."""
        said = rng.choice(self.utterances)
        return self.tokens(said), said.codes_of(voice)


def code_embeddings(state: pathlib.Path, width: int, spread: float = 0.05) -> torch.Tensor:
    """(8, 1024, width): the codebooks' own entries, projected at random. As first embeddings and first heads they make
    codes that sound alike look alike from the first step, which takes the place of hours of finding that out."""
    books = torch.from_numpy(np.load(state / "codebooks.npz")["books"])  # (8, 1024, LATENT)
    books = books - books.mean(1, keepdim=True)
    projected = books @ torch.randn(books.shape[-1], width, generator=torch.Generator().manual_seed(2))
    return projected / projected.std((1, 2), keepdim=True).clamp(min=1e-6) * spread


def semantic_embeddings(width: int, spread: float = 0.05) -> tuple[torch.Tensor, torch.Tensor]:
    """(SEMANTIC, width), sums of vectors for phone, half, slot and place; and those of the places (PLACES, width)."""
    draw = torch.Generator().manual_seed(3)
    sizes = (len(PHONES), words.HALVES, words.SLOTS, words.PLACES)
    tables = [torch.randn(size, width, generator=draw) * spread for size in sizes]
    grid = tables[0][:, None, None, None] + tables[1][None, :, None, None] + tables[2][None, None, :, None] + tables[3]
    return grid.reshape(-1, width), tables[3]


def word_embeddings(corpus: Corpus, width: int, spread: float = 0.05) -> torch.Tensor:
    """(text vocabulary, width): a known word starts as the sum of its phones, each projected by its place in it."""
    draw = torch.Generator().manual_seed(4)
    table = torch.randn(corpus.tokenizer.get_vocab_size(), width, generator=draw) * spread
    slots = torch.randn(10, len(PHONES), width, generator=draw) * spread
    for word, phones in words.pronunciations(corpus.state, []).items():
        index = corpus.tokenizer.token_to_id(word)
        if index is not None and len(word) > 1:
            table[index] = sum((slots[min(j, 9), p] for j, p in enumerate(phones)), torch.zeros(width))
    return table
