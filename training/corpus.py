"""What the transformers learn from: token ids of every utterance, the tokenizer, this checkpoint's ids."""

import collections
import json
import pathlib
import random
import re
from dataclasses import dataclass

import numpy as np
import words
from codebooks import VOICES
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers
from words import SEMANTIC

TEXT_OFFSET = SEMANTIC + 1  # id 0 of the tokenizer; SEMANTIC itself is pad and EOS
COARSE_PAD, COARSE_INFER = SEMANTIC + 2048, SEMANTIC + 2049
COARSE_VOCABULARY = SEMANTIC + 2050
WHOLE_WORDS, HEARD_FROM = 5_000, 2
EXPORTED_WORDS, SPOKEN_FROM = 9_300, 20  # words of the checkpoint; tokens are left out that speech has more seldom
NUMBERS = [*range(1000), *range(1800, 2051)]
SUFFIXES = "s ed ing er ers ly ness less ful able ment tion y al es 's 't 'll 're 've 'd n't".split()  # noqa: SIM905
WORD = r"[a-z]+(?:'[a-z]+)*|[0-9]+|[^\sa-z0-9]"
LONGEST_WORD = 24  # phones that tell words apart
SAID_AS = {"-": " ", "–": " ", "/": " ", "_": " ", "’": "'", "‘": "'", "—": ", ", ";": ",", ":": ",", "…": ".",
           "%": " percent", "&": " and ", "+": " plus ", "=": " equals ", "$": " dollars ", "@": " at "}  # fmt: skip
UNSAID = r'["“”«»()\[\]{}<>*#~^|\\`]'


def make_tokenizer(state: pathlib.Path, path: pathlib.Path, whole_words: int) -> Tokenizer:
    """WordPiece: frequent words and numbers are one token, others fall into a word that they begin with and letters."""
    import wordfreq

    texts = (state / "sentences.txt").read_text().lower()
    count = collections.Counter(re.findall(r"[a-z]+(?:'[a-z]+)*", texts))
    frequent = [w for w in wordfreq.top_n_list("en", 40_000) if re.fullmatch(r"[a-z]+('[a-z]+)*", w) and len(w) > 1]
    place = {w: n for n, w in enumerate(frequent)}
    common = {w for w in {*frequent[:whole_words], *count} if len(w) > 1 and (count[w] >= HEARD_FROM or w in place)}
    whole = sorted(common, key=lambda w: (place.get(w, len(frequent)) - 40 * min(count[w], 400), w))[:whole_words]
    letters = list("abcdefghijklmnopqrstuvwxyz0123456789',.?!")
    pieces = ["[UNK]", *letters, *(f"##{c}" for c in letters), *(f"##{s}" for s in SUFFIXES)]
    pieces += [str(n) for n in NUMBERS if n > 9] + sorted(whole)
    vocabulary = {piece: i for i, piece in enumerate(dict.fromkeys(pieces))}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]", max_input_chars_per_word=60))
    steps = [normalizers.NFD(), normalizers.StripAccents(), normalizers.Lowercase()]
    steps += [normalizers.Replace(old, new) for old, new in SAID_AS.items()]
    tokenizer.normalizer = normalizers.Sequence([*steps, normalizers.Replace(Regex(UNSAID), " ")])
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(WORD), "removed", invert=True)
    tokenizer.save(str(path))
    return tokenizer


def pronunciations(path: pathlib.Path, tokenizer: Tokenizer) -> dict[str, list[int]]:
    """Phones of every whole word and number, by the teacher's rules; kept in the file."""
    if path.exists():
        return json.loads(path.read_text())
    from speak import Teacher

    teacher, found = Teacher(), {}
    for word in tokenizer.get_vocab():
        if word in {"a", "i"} or word.isdigit() or (len(word) > 1 and re.fullmatch(r"[a-z]+('[a-z]+)*", word)):
            symbols = teacher.symbols({"i": "I"}.get(word, word)) or []
            rows = np.array([(0, 1, 0), *((ord(symbol), 1, 0) for symbol, _ in symbols), (0, 1, 0)])
            phones = [p for p, _, _ in words.phones_of(rows) if p < words.FIRST_PAUSE]
            found[word] = phones[:LONGEST_WORD]
    path.write_text(json.dumps(found))
    return found


@dataclass
class Utterance:
    text: str
    base: np.ndarray  # (n,) semantic tokens but for their word's place
    word: np.ndarray  # (n,) number of the word in text.split()
    after: np.ndarray  # (n,) whether it is the pause after the word
    codes: np.ndarray  # (voices, 2 or 8, T), T = 75/49.9 n

    def semantic(self, places: np.ndarray) -> np.ndarray:
        """(n,) tokens, given where each word begins and ends among the text ids: places (words, 2)."""
        return self.base + self.spans(places)[:, 0] % words.PLACES

    def spans(self, places: np.ndarray) -> np.ndarray:
        """(n, 2) first and last of the text ids that each token speaks; a pause is its punctuation."""
        return np.stack([places[self.word, self.after.astype(int)], places[self.word, 1]], 1)


class Corpus:
    """All utterances whose codes are made; some words can be spelled, so that spelling is learnt too."""

    def __init__(self, state: pathlib.Path, shards: int | None = None):
        self.state = state
        path = state / "tokenizer.json"
        self.tokenizer = Tokenizer.from_file(str(path)) if path.exists() else make_tokenizer(state, path, WHOLE_WORDS)
        self.text_pad = TEXT_OFFSET + self.tokenizer.get_vocab_size()
        self.semantic_infer = self.text_pad + 1
        self.semantic_vocabulary = self.semantic_infer + 1
        self.known, self.utterances = set(), []
        self.pieces: dict[str, list[int]] = {}
        for path in sorted((state / "codes").glob("???.npz"))[:shards]:
            self.add(path)

    def add(self, path: pathlib.Path) -> None:
        self.known.add(path.name)
        with np.load(path) as held:
            texts, codes, base, word, pause, at, token_at = (
                held[k] for k in ("text", "codes", "base", "word", "pause", "at", "token_at")
            )
        after = pause & (words.parts_of(base.astype(int))[0] != words.FIRST_PAUSE)
        for i, text in enumerate(map(str, texts)):
            own = slice(token_at[i], token_at[i + 1])
            said = Utterance(text, base[own].astype(np.int64), word[own], after[own], codes[:, :, at[i] : at[i + 1]])
            if len(said.base) < 700:
                self.utterances.append(said)

    def more(self) -> None:
        """Shards that were made since."""
        for path in sorted((self.state / "codes").glob("???.npz")):
            if path.name not in self.known:
                self.add(path)

    def ids_of(self, piece: str) -> list[int]:
        if piece not in self.pieces:
            self.pieces[piece] = self.tokenizer.encode(piece, add_special_tokens=False).ids
        return self.pieces[piece]

    def spelled(self, word: str) -> list[int]:
        return [self.tokenizer.token_to_id(c) for c in (word[0], *(f"##{c}" for c in word[1:]))]

    def text_ids(
        self, text: str, rng: random.Random | None = None, spelled: float = 0.06
    ) -> tuple[np.ndarray, np.ndarray]:
        """Ids with offset (T,), and where each word of text.split() begins and ends in them; rng spells some words."""
        ids: list[int] = []
        places = []
        for word in text.split():
            first = len(ids)
            for piece in re.findall(WORD, word.lower()):
                if rng and piece.isalpha() and rng.random() < spelled:
                    ids += self.spelled(piece)
                else:
                    ids += self.ids_of(piece)
            places.append((first, len(ids) - 1))
        return np.array(ids, np.int64) + TEXT_OFFSET, np.array(places)

    def tokens(self, said: Utterance) -> np.ndarray:
        """(n,) semantic tokens as the text is tokenized at inference."""
        return said.semantic(self.text_ids(said.text)[1])

    def history(self, voice: int, rng: random.Random) -> tuple[np.ndarray, np.ndarray]:
        """Semantic tokens (n,) and codes (2 or 8, 1.5 n) of one utterance in a voice."""
        said = rng.choice(self.utterances)
        return self.tokens(said), said.codes[voice].astype(np.int64)


assert next(iter(VOICES)) == "heart"  # what is spoken without a prompt
