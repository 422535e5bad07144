"""Finds and reads books: files, folders and globs, by path or any fsspec URL."""

import re
from collections.abc import Sequence
from pathlib import PurePosixPath

import fsspec

from pipeline.books.book import Book, BookSettings
from pipeline.books.epub import read_epub
from pipeline.books.plain import read_html, read_markdown, read_text
from pipeline.errors import ConfigError, one_line, redact
from pipeline.storage.retries import with_retries

READERS = {
    ".epub": read_epub,
    ".md": read_markdown,
    ".markdown": read_markdown,
    ".html": read_html,
    ".htm": read_html,
    ".xhtml": read_html,
    ".txt": read_text,
}
MANIFEST = ".parquet"  # of a book, edited by hand: read by pipeline/audiobook/manifest.py, and only if it is named
MAX_BOOK_BYTES = 1 << 30
MAX_STEM = 120


def find_books(urls: Sequence[str]) -> list[str]:
    """The URLs of all books, in order; a folder or a glob gives its books by name.

    Raises:
        ConfigError: nothing is there, an unknown ending, or two books whose results would have one name.
    """
    found: list[str] = []
    for url in urls:
        found += [book for book in find(url) if book not in found]
    stems: dict[str, str] = {}
    for book in found:
        other = stems.setdefault(stem_of(book).casefold(), book)
        if other != book:
            raise ConfigError(f"{redact(book)}: {redact(other)} has the same name, and so would its result: rename one")
    return found


def find(url: str) -> list[str]:
    name = redact(url)
    try:
        fs, path = fsspec.core.url_to_fs(url)
        if any(c in path for c in "*?["):
            paths = with_retries(name, lambda: list(fs.glob(path)))
        elif with_retries(name, lambda: fs.isdir(path)):
            paths = with_retries(name, lambda: list(fs.ls(path, detail=False)))
        elif suffix(path) in (*READERS, MANIFEST):
            with_retries(name, lambda: fs.info(path))
            return [url]
        else:
            known = ", ".join(READERS)
            raise ConfigError(f"{name}: is no book: must be a folder, or end in {known}")
    except FileNotFoundError as error:
        raise ConfigError(f"{name}: no such file") from error
    except (ValueError, ImportError) as error:
        raise ConfigError(f"{name}: can't be opened: {one_line(error)}") from error
    books = sorted(p for p in paths if suffix(p) in READERS and not PurePosixPath(p).name.startswith((".", "_")))
    if not books:
        raise ConfigError(f"{name}: has no books ({', '.join(READERS)})")
    return [fs.unstrip_protocol(p) if "://" in url else p for p in books]


def read_book(url: str, settings: BookSettings) -> Book:
    """Read one book.

    Raises:
        ConfigError: it can't be read; the message names the book.
    """
    name = PurePosixPath(url).name
    fs, path = fsspec.core.url_to_fs(url)
    try:
        size = with_retries(name, lambda: fs.info(path)).get("size") or 0
        if size > MAX_BOOK_BYTES:
            raise ConfigError(f"{redact(url)}: is larger than {MAX_BOOK_BYTES:,} bytes: refused")
        content = with_retries(name, lambda: fs.cat_file(path))
    except FileNotFoundError as error:
        raise ConfigError(f"{redact(url)}: no such file") from error
    return READERS[suffix(path)](redact(name), stem_of(url), content, settings)


def read_file(url: str) -> bytes:
    """A small file, such as a lexicon; raises ConfigError."""
    try:
        fs, path = fsspec.core.url_to_fs(url)
        return with_retries(redact(url), lambda: fs.cat_file(path))
    except (OSError, ValueError, ImportError) as error:
        reason = "no such file" if isinstance(error, FileNotFoundError) else f"can't be read: {one_line(error)}"
        raise ConfigError(f"{redact(url)}: {reason}") from error


def suffix(path: str) -> str:
    return PurePosixPath(path).suffix.lower()


def stem_of(url: str) -> str:
    """The file's name without its ending; it names results, so it has no control characters and is not long."""
    stem = re.sub(r"[\x00-\x1f\x7f/\\]", "", PurePosixPath(redact(url).removesuffix("?...")).stem)
    return stem[:MAX_STEM].lstrip("._") or "book"
