"""Reads an EPUB 2 or 3: the documents of the spine as blocks, cut into chapters by the table of contents."""

from collections import Counter
from typing import Any

from pipeline.books import chapters, toc
from pipeline.books.archive import Archive
from pipeline.books.blocks import BlockReader
from pipeline.books.book import Block, Book, BookSettings, Skip
from pipeline.books.lexicon import Entry
from pipeline.books.markup import XML_LANGUAGE, all_text, elements, parse_html, parse_xml, types
from pipeline.books.notes import Notes
from pipeline.books.package import Package, read_package, refuse_protected
from pipeline.errors import ConfigError

READABLE = {"application/xhtml+xml", "text/html", "application/xml", "text/x-oeb1-document", "application/x-dtbook+xml"}
UNSPOKEN = {"toc": "navigation", "index": "an index", "loi": "a list of pictures", "lot": "a list of tables"}


def read_epub(name: str, stem: str, content: bytes, settings: BookSettings) -> Book:
    """Read an EPUB.

    Args:
        name: for messages.
        stem: names the results.

    Raises:
        ConfigError: it can't be read: no EPUB, encrypted, damaged, too large, or without text.
    """
    archive = Archive(name, content)
    refuse_protected(archive)
    package = read_package(archive)
    skipped: list[Skip] = []
    entries = read_toc(archive, package, skipped)
    documents = read_documents(archive, package, entries, skipped)
    notes = Notes()
    notes.scan(documents)
    reader = BlockReader(settings, notes)
    blocks: list[Block] = []
    nav = package.with_property("nav")
    for path, root in documents.items():
        if reason := reason_to_skip(path, root, nav.path if nav else None):
            skipped.append(Skip(path, reason))
        else:
            blocks += reader.read(path, root)
    if not blocks:
        raise ConfigError(f"{name}: has no text to speak")
    if entries:
        found, lost = chapters.by_contents(blocks, entries, settings.toc_depth)
        skipped += [Skip(f"chapter {title!r}", "the table of contents leads to no text") for title in lost]
    else:
        found = chapters.by_headings(blocks, settings.toc_depth)
    if settings.footnotes == "end":
        found = [chapters.notes_last(chapter) for chapter in found]
    lexicon = read_lexicons(archive, package, skipped)
    return Book(stem, package.about, tuple(found), (*skipped, *counted(reader.skipped)), lexicon)


def read_toc(archive: Archive, package: Package, skipped: list[Skip]) -> list[toc.Entry]:
    """The entries of EPUB 3's navigation document, else of EPUB 2's NCX; empty if neither can be read."""
    nav = package.with_property("nav")
    sources = [(nav.path, toc.from_nav)] if nav else []
    sources += [(package.ncx, toc.from_ncx)] if package.ncx else []
    for path, read in sources:
        try:
            entries = read(path, read_markup(archive, path, skipped))
        except (FileNotFoundError, ConfigError):
            skipped.append(Skip(path, "a table of contents that can't be read"))
            continue
        if entries:
            return entries
    return []


def read_lexicons(archive: Archive, package: Package, skipped: list[Skip]) -> tuple[Entry, ...]:
    """The respellings (`alias`) in the EPUB's PLS lexicons. Phonetic letters are named as skipped: Bark reads none."""
    entries: list[Entry] = []
    for item in (item for item in package.items.values() if item.media_type == "application/pls+xml"):
        try:
            root = parse_xml(f"{archive.name}: {item.path}", archive.read(item.path))
        except (FileNotFoundError, ConfigError):
            skipped.append(Skip(item.path, "a lexicon that can't be read"))
            continue
        phonetic = 0
        for lexeme in elements(root, "lexeme"):
            aliases = [all_text(e) for e in elements(lexeme, "alias")]
            words = [all_text(e) for e in elements(lexeme, "grapheme")]
            language = root.get(XML_LANGUAGE)
            if aliases and aliases[0]:
                entries += [Entry(word=word, say=aliases[0], case=True, language=language) for word in words if word]
            phonetic += not aliases
        if phonetic:
            skipped.append(Skip(f"{phonetic:,} entries of {item.path}", "phonetic letters, which Bark does not read"))
    return tuple(entries)


def read_documents(archive: Archive, package: Package, entries: list[toc.Entry], skipped: list[Skip]) -> dict[str, Any]:
    """The documents of the spine that can be read: path -> root element. Those outside the main order count only if
    the table of contents names them, or as holders of footnotes."""
    named = {entry.document for entry in entries}
    documents: dict[str, Any] = {}
    for key, linear in package.spine:
        item = package.items.get(key)
        if item is None:
            skipped.append(Skip(f"spine item {key!r}", "the package does not list it"))
        elif not item.path:
            skipped.append(Skip(f"spine item {item.href!r}", "it leads outside the book"))
        elif item.media_type not in READABLE:
            skipped.append(Skip(item.path, f"{item.media_type or 'an unknown type'} is no text"))
        elif not linear and item.path not in named:
            skipped.append(Skip(item.path, "not in the main reading order"))
        elif item.path not in documents:
            try:
                documents[item.path] = read_markup(archive, item.path, skipped)
            except FileNotFoundError:
                skipped.append(Skip(item.path, "the file is missing"))
            except ConfigError as error:
                skipped.append(Skip(item.path, str(error).removeprefix(f"{archive.name}: ")))
    return documents


def read_markup(archive: Archive, path: str, skipped: list[Skip]) -> Any:
    """The root of a document, as XHTML or, if that is broken, as HTML; raises FileNotFoundError, ConfigError."""
    content = archive.read(path)
    try:
        return parse_xml(f"{archive.name}: {path}", content)
    except ConfigError as error:
        root = parse_html(f"{archive.name}: {path}", content)
        reason = str(error).partition("not well-formed XML: ")[2] or str(error)
        skipped.append(Skip(f"nothing of {path}", f"but it is broken and was read as HTML: {reason}"))
        return root


def reason_to_skip(path: str, root: Any, nav: str | None) -> str | None:
    """Why a whole document is not spoken; None if it is."""
    if path == nav:
        return "navigation"
    for body in elements(root, "body"):
        outer = [body, *body]
        words = set().union(*(types(e) for e in (outer if len(outer) == 2 else outer[:1])))
        return next((reason for word, reason in UNSPOKEN.items() if word in words), None)
    return None


def counted(counts: Counter[str]) -> list[Skip]:
    """Such as `3 tables`."""
    return [Skip(f"{n:,} {what}{'s' if n > 1 else ''}", "not speech") for what, n in sorted(counts.items())]
