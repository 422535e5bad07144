"""What the three transformers learn from: token ids of every utterance, the tokenizer, and the ids of this checkpoint."""
import collections
import pathlib
import random
import re
from dataclasses import dataclass

import numpy as np
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

from speak import PARTS, PHONES
from vocoder import VOICES

SEMANTIC = len(PHONES) * PARTS                  # semantic tokens; this id itself is pad and EOS
TEXT_OFFSET = SEMANTIC + 1                      # id 0 of the tokenizer
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
    voice: int
    semantic: np.ndarray                         # (n,)
    codes: np.ndarray                            # (8, T), T = 75/49.9 n


class Corpus:
    """All utterances whose codes are made, by voice; text ids with some words spelled, so that spelling is learnt too."""

    def __init__(self, state: pathlib.Path, first_shard: int = 0):
        path = state / "tokenizer.json"
        self.tokenizer = Tokenizer.from_file(str(path)) if path.exists() else make_tokenizer(state)
        self.text_pad = TEXT_OFFSET + self.tokenizer.get_vocab_size()
        self.semantic_infer = self.text_pad + 1
        self.semantic_vocabulary = self.semantic_infer + 1
        self.utterances: list[Utterance] = []
        for path in sorted((state / "codes").glob("???.npy"))[first_shard:]:
            held, codes = np.load(state / "speech" / f"{path.stem}.npz"), np.load(path)
            texts, voices, tokens, at, token_at = (held[k] for k in ("text", "voice", "tokens", "offset", "token_offset"))
            for i in range(len(texts)):
                self.utterances.append(Utterance(str(texts[i]), list(VOICES).index(voices[i]),
                                                 tokens[token_at[i]:token_at[i + 1]].astype(np.int64),
                                                 codes[:, at[i]:at[i + 1]].astype(np.int64)))
        self.by_voice = [[u for u in self.utterances if u.voice == v] for v in range(len(VOICES))]

    def text_ids(self, text: str, rng: random.Random | None = None, spelled: float = 0.1) -> np.ndarray:
        """Ids with offset; with rng, a share of the words as single letters."""
        ids: list[int] = []
        for word in re.findall(r"[A-Za-z]+|[^A-Za-z\s]", text) if rng else [text]:
            if rng and word.isalpha() and rng.random() < spelled:
                letters = [word[0].lower(), *(f"##{c}" for c in word[1:].lower())]
                ids += [self.tokenizer.token_to_id(c) for c in letters]
            else:
                ids += self.tokenizer.encode(word, add_special_tokens=False).ids
        return np.array(ids[:256], np.int64) + TEXT_OFFSET

    def history(self, voice: int, rng: random.Random, least: int = 215) -> tuple[np.ndarray, np.ndarray]:
        """Semantic tokens (n,) and codes (8, 1.5 n) of a voice's utterances put together, as its history prompt is."""
        parts: list[Utterance] = []
        while sum(len(u.semantic) for u in parts) < least:
            parts.append(rng.choice(self.by_voice[voice]))
        return np.concatenate([u.semantic for u in parts]), np.concatenate([u.codes for u in parts], 1)
