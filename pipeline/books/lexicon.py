"""Respellings of words: from a YAML file, and the aliases of an EPUB's own PLS lexicons."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError, model_validator

from pipeline.books.sentences import base
from pipeline.config import from_yaml
from pipeline.errors import ConfigError


class Entry(BaseModel):
    """One respelling; `word` is taken as it is and between word boundaries, `regex` is a Python regular expression."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    word: str | None = None
    regex: str | None = None
    say: str  # with `regex`, \1 is the first group
    case: bool = False  # whether upper and lower case differ
    language: str | None = None  # only sentences in this language
    book: str | None = None  # only the book of this file name without its ending
    series: str | None = None  # only books of this series

    @model_validator(mode="after")
    def _check(self) -> "Entry":
        if bool(self.word) == bool(self.regex):
            raise ValueError("needs either `word` or `regex`")
        try:
            re.compile(f"{self.pattern.pattern}|").sub(self.replacement, "")  # it matches, so that \1 is checked, too
        except (re.error, IndexError) as error:
            raise ValueError(f"regex {self.regex!r}: {error}") from error
        return self

    @cached_property
    def pattern(self) -> re.Pattern[str]:
        text = self.regex or rf"(?<!\w){re.escape(self.word or '')}(?!\w)"
        return re.compile(text, 0 if self.case else re.IGNORECASE)

    @property
    def replacement(self) -> Any:
        """What `re.sub` puts in the place of a match."""
        return self.say if self.regex else lambda match: self.say

    def applies(self, book: str, series: str, language: str) -> bool:
        return (
            self.book in (None, book)
            and self.series in (None, series)
            and (self.language is None or base(self.language) == base(language))
        )


@dataclass(frozen=True)
class Lexicon:
    """The entries that hold for one book, in order: each sees what those before it have made."""

    entries: tuple[Entry, ...] = ()
    book: str = ""
    series: str = ""

    def of(self, book: str, series: str, more: Sequence[Entry] = ()) -> "Lexicon":
        """The lexicon for one book; its own entries come after those of the user."""
        return Lexicon((*self.entries, *more), book, series)

    def respell(self, text: str, language: str) -> str:
        for entry in self.entries:
            if entry.applies(self.book, self.series, language):
                text = entry.pattern.sub(entry.replacement, text)
        return text


def parse_lexicon(name: str, content: bytes) -> Lexicon:
    """A YAML list of entries; raises ConfigError, naming the file and the entry."""
    values = from_yaml(content, name)
    try:
        return Lexicon(tuple(TypeAdapter(list[Entry]).validate_python(values)))
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        reason = first["msg"].removeprefix("Value error, ")
        raise ConfigError(f"{name}: entry {place or '?'}: {reason}") from error
