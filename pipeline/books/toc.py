"""Reads a table of contents: the navigation document of EPUB 3, or the NCX of EPUB 2."""

from dataclasses import dataclass
from typing import Any

from pipeline.books.archive import resolve
from pipeline.books.markup import all_text, elements, tag, types


@dataclass(frozen=True)
class Entry:
    title: str
    document: str  # path in the archive
    fragment: str  # id of the element where it begins; empty: the document's start
    level: int  # 1: the outermost


def from_nav(path: str, root: Any) -> list[Entry]:
    """The entries of an EPUB 3 navigation document, in order; empty if it has no table of contents."""
    navs = elements(root, "nav")
    nav = next((nav for nav in navs if "toc" in types(nav)), None)
    entries: list[Entry] = []

    def read(items: Any, level: int) -> None:
        for item in (e for e in items if tag(e) == "li"):
            link = next((e for e in item.iter() if tag(e) == "a" and nearest(e, "li") is item), None)
            if link is not None:
                document, fragment = resolve(path, link.get("href") or "")
                entries.append(Entry(all_text(link), document, fragment, level))
            for inner in (e for e in item if tag(e) == "ol"):
                read(inner, level + (link is not None))

    for top in (e for e in (nav if nav is not None else ()) if tag(e) == "ol"):
        read(top, 1)
    return entries


def from_ncx(path: str, root: Any) -> list[Entry]:
    """The entries of an EPUB 2 NCX, in order."""
    entries: list[Entry] = []

    def read(parent: Any, level: int) -> None:
        for point in (e for e in parent if tag(e) == "navpoint"):
            label = next((e for e in point if tag(e) == "navlabel"), None)
            content = next((e for e in point if tag(e) == "content"), None)
            document, fragment = resolve(path, content.get("src") or "") if content is not None else ("", "")
            entries.append(Entry(all_text(label) if label is not None else "", document, fragment, level))
            read(point, level + 1)

    for top in elements(root, "navmap")[:1]:
        read(top, 1)
    return entries


def nearest(element: Any, name: str) -> Any | None:
    return next((e for e in element.iterancestors() if tag(e) == name), None)
