"""Reads Markdown, HTML and plain text as books."""

import re
from collections.abc import Sequence
from dataclasses import replace

from pipeline.books import chapters
from pipeline.books.blocks import BlockReader
from pipeline.books.book import About, Block, Book, BookSettings, Skip
from pipeline.books.epub import counted
from pipeline.books.markup import XML_LANGUAGE, all_text, elements, parse_html
from pipeline.books.notes import Notes
from pipeline.errors import ConfigError

MAX_TEXT_BYTES = 32 << 20
CONTROL = re.compile(r"[\x00-\x08\x0b\x0e-\x1f\x7f]")
CHAPTER_LINE = re.compile(
    r"(chapter|part|book|kapitel|teil|buch|capítulo|parte|libro|chapitre|partie|livre|capitolo)\s+([0-9]+|[ivxlcdm]+|\w+)\b.{0,60}"
    r"|prologue|epilogue|prolog|epilog|prólogo|epílogo|épilogue",
    re.IGNORECASE,
)


def read_html(name: str, stem: str, content: bytes, settings: BookSettings) -> Book:
    """A book from one HTML document: a chapter per heading of the outermost levels."""
    root = parse_html(name, content)
    notes = Notes()
    notes.scan({name: root})
    reader = BlockReader(settings, notes)
    blocks = reader.read(name, root)
    titles = [all_text(e) for e in elements(root, "title")]
    metas = {(e.get("name") or "").lower(): e.get("content") or "" for e in elements(root, "meta")}
    html = next(iter(elements(root, "html")), root)
    about = About(
        title=next(filter(None, titles), "") or first_title(blocks),
        creators=tuple(filter(None, [metas.get("author")])),
        language=html.get("lang") or html.get(XML_LANGUAGE) or "",
        date=metas.get("date", ""),
    )
    return to_book(name, stem, about, blocks, settings, counted(reader.skipped))


def read_markdown(name: str, stem: str, content: bytes, settings: BookSettings) -> Book:
    """A book from Markdown (CommonMark), by way of HTML; HTML inside of it is read, too."""
    from markdown_it import MarkdownIt

    html = MarkdownIt("commonmark").enable("table").render(decode(name, content))
    page = f'<html><head><meta charset="utf-8"></head><body>{html}</body></html>'
    return replace(read_html(name, stem, page.encode(), settings), has_controls=True)


def read_text(name: str, stem: str, content: bytes, settings: BookSettings) -> Book:
    """A book from plain text: paragraphs between empty lines; a short line such as "Chapter 3" begins a chapter."""
    blocks = []
    for paragraph in re.split(r"\n[ \t]*\n", decode(name, content).replace("\r\n", "\n").replace("\r", "\n")):
        text = " ".join(paragraph.split())
        if any(c.isalnum() for c in text):
            is_title = len(text) <= 80 and bool(CHAPTER_LINE.fullmatch(text))
            blocks.append(Block("title" if is_title else "text", text, name, level=int(is_title)))
    return replace(to_book(name, stem, About(), blocks, settings, []), has_controls=True)


def to_book(
    name: str, stem: str, about: About, blocks: Sequence[Block], settings: BookSettings, skipped: list[Skip]
) -> Book:
    if not blocks:
        raise ConfigError(f"{name}: has no text to speak")
    found = chapters.by_headings(blocks, settings.toc_depth)
    if settings.footnotes == "end":
        found = [chapters.notes_last(chapter) for chapter in found]
    return Book(stem, about, tuple(found), tuple(skipped))


def first_title(blocks: Sequence[Block]) -> str:
    return next((block.text for block in blocks if block.kind == "title"), "")


def decode(name: str, content: bytes) -> str:
    """UTF-8, with or without a byte order mark, or UTF-16 with one; raises ConfigError."""
    if len(content) > MAX_TEXT_BYTES:
        raise ConfigError(f"{name}: is larger than {MAX_TEXT_BYTES:,} bytes: refused")
    encoding = "utf-16" if content.startswith((b"\xff\xfe", b"\xfe\xff")) else "utf-8-sig"
    try:
        return CONTROL.sub("", content.decode(encoding))
    except UnicodeDecodeError as error:
        raise ConfigError(f"{name}: is not UTF-8 text; convert it, such as with iconv") from error
