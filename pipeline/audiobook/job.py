"""`barkery audiobook`: books in, finished audiobooks out."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from pipeline.audiobook.assemble import Result, assemble
from pipeline.audiobook.config import AudiobookConfig
from pipeline.audiobook.m4b import load_av
from pipeline.audiobook.manifest import Script, read_script
from pipeline.audiobook.speak import speak
from pipeline.books.chosen import choose, parse_chapters
from pipeline.books.lexicon import Lexicon
from pipeline.books.voices import Voices
from pipeline.errors import redact
from pipeline.log import log
from pipeline.storage.store import Store, absolute_url


@dataclass(frozen=True)
class Shelf:
    """What became of all books of one call."""

    books: tuple[Result, ...]
    num_new: int
    num_kept: int

    @property
    def num_missing(self) -> int:
        return sum(len(book.missing) for book in self.books)


def open_output(output: str, config: AudiobookConfig) -> Store:
    """The folder of the results; a local path becomes absolute, since workers run elsewhere."""
    return Store(absolute_url(output), config.storage_options)


def read_scripts(
    urls: Sequence[str],
    config: AudiobookConfig,
    chapters: str | None = None,
    lexicon: Lexicon | None = None,
    voices: Voices | None = None,
) -> list[Script]:
    """All books, with only the chapters that were asked for; raises ConfigError."""
    wanted = parse_chapters(chapters) if chapters else None
    scripts = [read_script(url, config.book, lexicon, voices) for url in urls]
    return [
        replace(script, rows=choose(script.rows, wanted, redact(url)))
        for url, script in zip(urls, scripts, strict=True)
    ]


def make_audiobooks(scripts: Sequence[Script], store: Store, config: AudiobookConfig, address: str | None) -> Shelf:
    """Speak what is not spoken yet, in one run over all books, then assemble each book.

    Raises:
        ConfigError, IncompleteError: as a run; the same call goes on where it stopped.
    """
    load_av()  # before hours of speech
    store.check_writable("_work/.writable")
    rows = [row for script in scripts for row in script.rows]
    spoken = speak(store, config, rows, address)
    books = []
    for script in scripts:
        book = assemble(store, script, config, spoken, address)
        for lost in book.missing:
            log.warning(f"{script.stem}: missing: {lost['text'][:80]!r} ({lost['reason']}), id {lost['id']}")
        books.append(book)
    return Shelf(tuple(books), spoken.num_new, spoken.num_kept)
