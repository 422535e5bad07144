"""Converts text to token ids, and splits long texts into segments that fit one Bark pass.

Source of the normalization and of the tokenizer's use: suno-ai/bark `generation.py`.
"""

import json
import re
import unicodedata
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import numpy as np
import sentencex
from tokenizers import BertWordPieceTokenizer, Tokenizer

from pipeline import spec
from pipeline.checkpoints import hub
from pipeline.errors import CheckpointError, RowError

DEFAULT_TOKENIZER = "bert-base-multilingual-cased"
TOKENIZER_FILES = ("tokenizer.json", "vocab.txt", "tokenizer_config.json")
CLAUSE_END = re.compile(r"(?<=[,;:，、；：—–])\s*")


@dataclass(frozen=True)
class SegmentLimits:
    """Limits of one Bark pass, about 13 s of speech. A text within both limits is one segment."""

    max_tokens: int | None = None  # token ids, at most 256; None: the checkpoint's own limit, else 64
    max_chars: int = 190  # an East Asian wide character counts as three


def normalize(text: str) -> str:
    """The text with any run of white space as one space, and none at its ends."""
    return " ".join(text.split())


class TextEncoder:
    """The checkpoint's own WordPiece tokenizer, without special tokens."""

    def __init__(self, tokenizer: Tokenizer, vocabulary: spec.Vocabulary):
        self.tokenizer = tokenizer
        self._ids = lru_cache(2048)(self._tokenize)  # a text is split first and encoded later
        self.max_segment_tokens = vocabulary.max_segment_tokens

    @classmethod
    def load(cls, folder: Path, vocabulary: spec.Vocabulary, tokenizer: str | None = None) -> "TextEncoder":
        """Load from the checkpoint's folder, or from `tokenizer` (a folder or hub id), which Suno's format needs.

        Raises:
            CheckpointError: no tokenizer files, or a tokenizer with more ids than the model has.
        """
        folder = tokenizer_folder(folder, tokenizer)
        loaded = read_tokenizer(folder)
        loaded.no_padding()
        loaded.no_truncation()
        room = vocabulary.text_pad_token - vocabulary.text_encoding_offset
        if loaded.get_vocab_size() > room:
            raise CheckpointError(
                f"{folder}: the tokenizer has {loaded.get_vocab_size()} ids, the model knows {room}: use this model's"
            )
        return cls(loaded, vocabulary)

    def encode(self, text: str) -> np.ndarray:
        """(T,) int64 ids without offset, 1 <= T <= 256.

        Raises:
            RowError: `empty_text` or `text_too_long`; a text is never truncated.
        """
        ids = self._ids(normalize(text))
        if not ids:
            raise RowError("empty_text", "the text has nothing to speak")
        if len(ids) > spec.TEXT_LEN:
            raise RowError(
                "text_too_long",
                f"the text has {len(ids)} tokens, one pass takes {spec.TEXT_LEN}; `say` and the job split long texts",
            )
        return np.array(ids, dtype=np.int64)

    def split(self, text: str, limits: SegmentLimits | None = None, language: str | None = None) -> list[str]:
        """Segments within the limits, in order: at sentence ends, else clause ends, else between words.

        Nothing is dropped: the segments together are the normalized text, except for the spaces between them.

        Raises:
            RowError: `empty_text`, or `cannot_split` if one word exceeds the limits.
        """
        text = normalize(text)
        if not text:
            raise RowError("empty_text", "the text has nothing to speak")
        limits = limits or SegmentLimits()
        if not limits.max_tokens:
            limits = replace(limits, max_tokens=self.max_segment_tokens)
        if self._fits(text, limits):
            return [text]
        sentences = sentencex.segment((language or "en").split("-")[0].lower(), text)
        pieces = [piece for sentence in sentences for piece in self._pieces(sentence.strip(), limits)]
        return self._pack([piece for piece in pieces if piece], limits)

    def _pieces(self, sentence: str, limits: SegmentLimits) -> list[str]:
        """One sentence, split only as far as the limits require."""
        if self._fits(sentence, limits):
            return [sentence]
        parts: list[str] = []
        for clause in (c for c in CLAUSE_END.split(sentence) if c):
            if self._fits(clause, limits):
                parts.append(clause)
                continue
            for word in clause.split(" "):
                if not self._fits(word, limits):
                    raise RowError(
                        "cannot_split",
                        f"{len(word)} characters without a place to split ({word[:24]!r}...): more than one pass "
                        f"speaks ({limits.max_chars} characters, {limits.max_tokens} tokens)",
                    )
                parts.append(word)
        return self._pack(parts, limits)

    def _pack(self, parts: list[str], limits: SegmentLimits) -> list[str]:
        """Join neighboring parts as long as they fit the limits."""
        packed: list[str] = []
        for part in parts:
            joined = f"{packed[-1]}{joint(packed[-1], part)}{part}" if packed else part
            if packed and self._fits(joined, limits):
                packed[-1] = joined
            else:
                packed.append(part)
        return packed

    def _fits(self, text: str, limits: SegmentLimits) -> bool:
        """True if the text is within both limits."""
        if spoken_chars(text) > limits.max_chars:
            return False  # before tokenizing: a text may have megabytes
        assert limits.max_tokens is not None, "set by split"
        return len(self._ids(text)) <= limits.max_tokens

    def _tokenize(self, text: str) -> list[int]:
        return list(self.tokenizer.encode(text, add_special_tokens=False).ids)


def joint(left: str, right: str) -> str:
    """The separator between two pieces: nothing next to East Asian wide characters, else a space."""
    wide = unicodedata.east_asian_width(left[-1]) in "WF" or unicodedata.east_asian_width(right[0]) in "WF"
    return "" if wide else " "


def spoken_chars(text: str) -> int:
    """Length in characters, with an East Asian wide one counted as three: about 15 per second in any script."""
    wide = 0 if text.isascii() else sum(unicodedata.east_asian_width(c) in "WF" for c in text)
    return len(text) + 2 * wide


def tokenizer_folder(folder: Path, tokenizer: str | None) -> Path:
    """The folder of the tokenizer's files: `tokenizer` if set, else the checkpoint's own, else Suno's tokenizer."""
    if tokenizer is None and not any((folder / name).exists() for name in TOKENIZER_FILES[:2]):
        tokenizer = DEFAULT_TOKENIZER
    return folder if tokenizer is None else hub.resolve(tokenizer, files=TOKENIZER_FILES)


def read_tokenizer(folder: Path) -> Tokenizer:
    """Read `tokenizer.json`, or build a BERT WordPiece tokenizer from `vocab.txt`; raises CheckpointError."""
    try:
        if (folder / "tokenizer.json").exists():
            return Tokenizer.from_file(str(folder / "tokenizer.json"))
        if (folder / "vocab.txt").exists():
            config = folder / "tokenizer_config.json"
            lowercase = config.exists() and bool(json.loads(config.read_text()).get("do_lower_case", False))
            return BertWordPieceTokenizer(str(folder / "vocab.txt"), lowercase=lowercase, strip_accents=lowercase)
    except Exception as error:  # the tokenizers library raises bare Exception for a damaged file
        raise CheckpointError(f"{folder}: its tokenizer files can't be read: {error}") from error
    raise CheckpointError(f"{folder}: has neither tokenizer.json nor vocab.txt")
