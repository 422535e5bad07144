"""The manifest of a book: one row per sentence, with an id that depends on its chapter and its own text only."""

import hashlib
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace

import pyarrow as pa

from pipeline.books import sentences
from pipeline.books.book import Block, Book, BookSettings
from pipeline.books.controls import Run, split_controls
from pipeline.books.lexicon import Lexicon
from pipeline.books.spoken.words import to_words
from pipeline.books.voices import Voices

SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("book", pa.string()),  # the file's name without its ending
        ("chapter", pa.int32()),  # from 1
        ("chapter_title", pa.string()),
        ("paragraph", pa.int32()),  # from 1 in its chapter
        ("kind", pa.string()),  # title, text, quote, list, footnote, caption or alt
        ("text", pa.string()),  # as the book has it
        ("text_spoken", pa.string()),  # as it is given to the model
        ("voice", pa.string()),  # null: the narrator
        ("language", pa.string()),
        ("pause_after_s", pa.float64()),
    ]
)


@dataclass(frozen=True)
class Sentence:
    """One row; the fields are SCHEMA's columns."""

    id: str
    book: str
    chapter: int
    chapter_title: str
    paragraph: int
    kind: str
    text: str
    text_spoken: str
    voice: str | None
    language: str
    pause_after_s: float


def sentences_of(
    book: Book, settings: BookSettings, lexicon: Lexicon | None = None, voices: Voices | None = None
) -> Iterator[Sentence]:
    """The sentences of a book, in order."""
    language = settings.language or book.about.language or "en"
    lexicon = (lexicon or Lexicon()).of(book.stem, book.about.series, book.lexicon)
    voices = voices or Voices()

    def spoken(text: str, language: str) -> str:
        respelled = lexicon.respell(text, language)
        return to_words(respelled, language) if settings.words else respelled

    titles: Counter[str] = Counter()
    for number, chapter in enumerate(book.chapters, 1):
        titles[chapter.title] += 1
        key = f"{book.stem}\0{chapter.title}\0{titles[chapter.title]}"  # not its number: chapters may be inserted
        seen: Counter[str] = Counter()
        rows: list[Sentence] = []
        for paragraph, block in enumerate(chapter.blocks, 1):
            spoken_language = settings.language or block.language or language
            before, runs = split_controls(block.text) if book.has_controls else (None, [Run(block.text, None)])
            if before is not None and rows:
                rows[-1] = replace(rows[-1], pause_after_s=before)
            for run in runs:
                parts = split(block.kind, run.text, spoken_language)
                for place, text in enumerate(parts, 1):
                    seen[text] += 1
                    ends_run, ends_block = place == len(parts), place == len(parts) and run is runs[-1]
                    pause = pause_after(block, ends_block, settings)
                    rows.append(
                        Sentence(
                            id=make_id(book.stem, key, text, seen[text]),
                            book=book.stem,
                            chapter=number,
                            chapter_title=chapter.title,
                            paragraph=paragraph,
                            kind=block.kind,
                            text=text,
                            text_spoken=spoken(text, spoken_language),
                            voice=voices.of(block.kind, block.speaker, run.voice),
                            language=spoken_language,
                            pause_after_s=run.pause_after_s if ends_run and run.pause_after_s is not None else pause,
                        )
                    )
        if rows:
            rows[-1] = replace(rows[-1], pause_after_s=settings.chapter_pause_s)
        yield from rows


def split(kind: str, text: str, language: str) -> list[str]:
    """A heading is spoken in one piece; anything else by sentences."""
    return [text] if kind == "title" else sentences.split(text, language)


def pause_after(block: Block, ends_block: bool, settings: BookSettings) -> float:
    if not ends_block:
        return settings.sentence_pause_s
    return settings.heading_pause_s if block.kind == "title" else settings.paragraph_pause_s


def make_id(stem: str, chapter_key: str, text: str, occurrence: int) -> str:
    """Such as `my-book-3f0a91c2b7d4`; a sentence that occurs again in its chapter has `-2` at the end."""
    digest = hashlib.sha256(f"{chapter_key}\0{text}".encode()).hexdigest()[:12]
    name = re.sub(r"[^\w.-]+", "-", stem)[:60]
    return f"{name}-{digest}" + (f"-{occurrence}" if occurrence > 1 else "")


def to_table(rows: list[Sentence]) -> pa.Table:
    return pa.Table.from_pylist([asdict(row) for row in rows], schema=SCHEMA)
