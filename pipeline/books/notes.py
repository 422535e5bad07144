"""Finds footnotes: the links that refer to them, and the elements that hold them."""

import re
from collections.abc import Iterator
from typing import Any

from pipeline.books.archive import resolve
from pipeline.books.markup import all_text, tag, types

REFERENCE_TYPES = {"noteref", "annoref"}
NOTE_TYPES = {"footnote", "endnote", "rearnote", "note", "annotation"}
LISTS_OF_NOTES = {"footnotes", "endnotes", "rearnotes"}
MARK = re.compile(r"[\[(]?\s*(\d{1,4}|[*†‡§]{1,3})\s*[\])]?")  # [1], (2), *, 14
HOLDERS = {"p", "li", "aside", "dd", "div", "section"}
HEADINGS = {"h1", "h2", "h3", "h4", "h5", "h6"}


class Notes:
    """The footnotes of all documents of a book.

    What the book marks as a note is one. Of other links, one whose text is a number or a star refers to a note if what
    it leads to begins with the same mark or leads back.
    """

    def __init__(self) -> None:
        self._marks: dict[Any, Any] = {}  # a link that is only a mark -> the element of its note, or None
        self._words: dict[Any, Any] = {}  # a link on words of the text -> the element of its note
        self._holders: set[Any] = set()

    def scan(self, documents: dict[str, Any]) -> None:
        """Find the footnotes of these documents: path -> root element."""
        by_id = {path: {e.get("id"): e for e in root.iter("*") if e.get("id")} for path, root in documents.items()}
        for root in documents.values():
            self._holders |= {e for e in root.iter("*") if types(e) & (NOTE_TYPES | LISTS_OF_NOTES)}
        for path, root in documents.items():
            for link in links(root):
                if self._is_in_note(link):
                    continue
                document, fragment = resolve(path, link.get("href") or "")
                target = by_id.get(document, {}).get(fragment)
                self._add(link, target)

    def _add(self, link: Any, target: Any | None) -> None:
        text = all_text(link)
        is_mark = bool(MARK.fullmatch(text))
        is_typed = bool(types(link) & REFERENCE_TYPES)
        holder = holder_of(target)
        if holder is not None and not is_typed and not (is_mark and is_note_of(holder, target, link, text)):
            return
        if holder is None and not is_typed:
            return
        if holder is not None:
            self._holders.add(holder)
        (self._marks if is_mark else self._words)[link] = holder

    def _is_in_note(self, element: Any) -> bool:
        return element in self._holders or any(e in self._holders for e in element.iterancestors())

    def is_note(self, element: Any) -> bool:
        return element in self._holders

    def is_mark(self, element: Any) -> bool:
        """True for a link that only refers to a note, such as `[1]`; one on words of the text is read."""
        return element in self._marks

    def note_of(self, link: Any) -> Any | None:
        """The element that holds the note of a link; None if it refers to none."""
        found = self._marks.get(link)
        return self._words.get(link) if found is None else found


def links(root: Any) -> Iterator[Any]:
    """All links outside navigation, where numbers are pages."""
    for element in root.iter("*"):
        if tag(element) == "a" and element.get("href") and not any(tag(e) == "nav" for e in element.iterancestors()):
            yield element


def holder_of(element: Any | None) -> Any | None:
    """The nearest element that can be a whole note: the one with the id, or the paragraph or list item around it."""
    while element is not None and tag(element) not in HOLDERS:
        element = element.getparent()
    return element


def is_note_of(holder: Any, target: Any, link: Any, mark: str) -> bool:
    """True if what a link leads to is a note, though the book does not say so: no page, no chapter."""
    if "pagebreak" in types(target) or link in holder.iter() or any(tag(e) in HEADINGS for e in holder.iter("*")):
        return False
    ids = {e.get("id") for e in (link, *link.iterancestors()) if e.get("id")}
    leads_back = any((e.get("href") or "").partition("#")[2] in ids for e in holder.iter("*") if e.get("href"))
    bare = mark.strip("[]() ")
    return leads_back or all_text(holder).lstrip("[(").startswith(bare)
