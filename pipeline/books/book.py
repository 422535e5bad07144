"""What a book is once it is read: chapters of blocks, what was left out and why, and what is known of the whole."""

from dataclasses import dataclass, field
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from pipeline.books.lexicon import Entry

KINDS = ("title", "text", "quote", "list", "footnote", "caption", "alt")


class BookSettings(BaseModel):
    """How a book becomes chapters and sentences: the section `book` of configs/audiobook.yaml."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    language: str | None = None  # default: as the book says, else `en`
    toc_depth: int = Field(2, ge=1, le=9)  # levels of the table of contents that begin a chapter
    footnotes: Literal["skip", "inline", "end"] = "skip"  # inline: after their paragraph; end: at the chapter's end
    alt_text: bool = False  # speak the descriptions of pictures
    words: bool = True  # numbers, dates, amounts, abbreviations, addresses in words (`text_spoken`)
    sentence_pause_s: float = Field(0.35, ge=0, le=60)
    paragraph_pause_s: float = Field(0.75, ge=0, le=60)
    heading_pause_s: float = Field(1.2, ge=0, le=60)
    chapter_pause_s: float = Field(2.5, ge=0, le=60)


@dataclass(frozen=True)
class Block:
    """A paragraph, a heading, a list item ..., with white space as single spaces."""

    kind: str  # one of KINDS
    text: str
    document: str  # the file inside the book that it came from
    language: str | None = None  # None: the book's
    anchors: frozenset[str] = frozenset()  # ids of the elements that begin with this block or lie in it
    level: int = 0  # of a heading, from 1
    speaker: str | None = None  # a name, as the book marks it


@dataclass(frozen=True)
class Skip:
    """Something that is not spoken."""

    what: str  # such as "3 tables", or a document's name
    why: str


@dataclass(frozen=True)
class Chapter:
    title: str
    blocks: tuple[Block, ...]


@dataclass(frozen=True)
class About:
    """What the book says of itself; empty where it says nothing."""

    title: str = ""
    creators: tuple[str, ...] = ()
    language: str = ""
    publisher: str = ""
    date: str = ""
    series: str = ""
    series_number: str = ""
    cover: bytes = field(default=b"", repr=False)  # JPEG or PNG


@dataclass(frozen=True)
class Book:
    stem: str  # the file's name without its ending: names the results
    about: About
    chapters: tuple[Chapter, ...]
    skipped: tuple[Skip, ...] = ()
    lexicon: tuple[Entry, ...] = ()  # respellings that the book brings
    has_controls: bool = False  # its paragraphs may have `[voice: NAME]` and `[pause: SECONDS]`
