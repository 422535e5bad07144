"""Turns the body of an (X)HTML document into blocks: paragraphs, headings, quotations, list items, captions."""

import re
from collections import Counter
from typing import Any

from pipeline.books.book import Block, BookSettings
from pipeline.books.markup import XML_LANGUAGE, all_text, elements, tag, types
from pipeline.books.notes import Notes

HEADINGS = {f"h{level}": level for level in range(1, 7)}
INLINE = {
    *("a", "abbr", "acronym", "b", "bdi", "bdo", "big", "cite", "code", "data", "del", "dfn", "em", "font", "i", "ins"),
    *(
        "kbd",
        "label",
        "mark",
        "nobr",
        "q",
        "rb",
        "rbc",
        "rtc",
        "ruby",
        "s",
        "samp",
        "small",
        "span",
        "strike",
        "strong",
    ),
    *("sub", "sup", "time", "tt", "u", "var", "wbr"),
}
SILENT = {"script", "style", "head", "template", "noscript", "iframe", "object", "audio", "video", "form", "rt", "rp"}
NAVIGATION = {"toc", "page-list", "landmarks", "loi", "lot", "loa", "lov", "index"}
PAGE_CLASS = re.compile(r"(^|\s)(page-?num(ber)?|pageno|pagebreak|pg-?num)(\s|$)", re.IGNORECASE)
NOTE_MARKS = re.compile(
    r"^[\[(]?(\d{1,3}|[*†‡§]{1,3})[\])]?[.:]?\s+|\s*[↩↑^]+\W*$"
)  # at a note's start, and its way back
HIDDEN_STYLE = re.compile(r"display\s*:\s*none|visibility\s*:\s*hidden", re.IGNORECASE)


class BlockReader:
    """Reads documents one after another; counts what it leaves out."""

    def __init__(self, settings: BookSettings, notes: Notes | None = None):
        self.settings = settings
        self.skipped: Counter[str] = Counter()  # such as "table" -> 3
        self._notes = notes or Notes()
        self._spoken_elsewhere = set() if settings.footnotes == "skip" else {"footnote", "footnote mark"}

    def read(self, document: str, root: Any) -> list[Block]:
        """The blocks of one document, in order."""
        self._document = document
        self._blocks: list[Block] = []
        self._text: list[str] = []
        self._anchors: set[str] = set()
        self._held_notes: list[Any] = []  # of the open block
        self._speaker: str | None = None
        bodies = elements(root, "body") or [root]
        language = language_of(root, None)
        for body in bodies:
            self._walk(body, "text", language_of(body, language), 0)
            self._flush("text", language, 0)
        return self._blocks

    def _walk(self, element: Any, kind: str, language: str | None, level: int) -> None:
        """Read an element's content; its own text is in the block of `kind` that is open."""
        if name := element.get("id") or element.get("name"):
            self._anchors.add(name)
        self._add(element.text)
        for child in element:
            self._child(child, kind, language, level)
            self._add(child.tail)

    def _child(self, child: Any, kind: str, language: str | None, level: int) -> None:
        name = tag(child)
        if not name or name in SILENT:
            return
        if what := self._reason_to_skip(child, name):
            if what not in self._spoken_elsewhere:
                self.skipped[what] += 1
            self._keep_anchors(child)
        elif name == "br":
            self._add(" ")
        elif name == "img":
            self._picture(child, kind, language)
        elif name == "switch":  # EPUB 3: one of several contents; the default is plain XHTML
            for default in (e for e in child if tag(e) == "default"):
                self._walk(default, kind, language, level)
        elif name in INLINE:
            self._walk(child, kind, language, level)
        else:
            inside = language_of(child, language)
            self._flush(kind, language, level)
            outer, self._speaker = self._speaker, child.get("data-speaker") or self._speaker
            self._walk(child, kind_of(child, name, kind), inside, HEADINGS.get(name, level))
            self._flush(kind_of(child, name, kind), inside, HEADINGS.get(name, level))
            self._speaker = outer

    def _reason_to_skip(self, element: Any, name: str) -> str | None:
        """What the element is called in the list of what was left out; None if it is read."""
        words = types(element)
        if self.settings.footnotes != "skip" and (note := self._notes.note_of(element)) is not None:
            self._held_notes.append(note)
        if self._notes.is_mark(element):
            return "footnote mark"
        if "pagebreak" in words or (name in ("span", "a", "div") and PAGE_CLASS.search(element.get("class") or "")):
            return "page number"
        if self._notes.is_note(element):
            return "footnote"
        if name == "nav" or words & NAVIGATION:
            return "navigation list"
        if name == "table":
            return "table"
        if name == "math":
            return "formula"
        if name == "svg":
            return "drawing"
        if element.get("hidden") is not None or HIDDEN_STYLE.search(element.get("style") or ""):
            return "hidden element"
        return None

    def _keep_anchors(self, element: Any) -> None:
        """A chapter may begin at a page number."""
        self._anchors |= {e.get("id") for e in element.iter("*") if e.get("id")}

    def _picture(self, element: Any, kind: str, language: str | None) -> None:
        text = (element.get("alt") or "").strip()
        if text and self.settings.alt_text:
            self._flush(kind, language, 0)
            self._add(text)
            self._flush("alt", language, 0)
        else:
            self.skipped["picture"] += 1

    def _add(self, text: str | None) -> None:
        if text:
            self._text.append(text)

    def _flush(self, kind: str, language: str | None, level: int) -> None:
        """Close the open block, if it has text; its footnotes follow it."""
        text = " ".join("".join(self._text).replace("\u00ad", "").split())
        self._text = []
        if any(c.isalnum() for c in text):
            title_level = level if kind == "title" else 0
            anchors = frozenset(self._anchors)
            self._blocks.append(Block(kind, text, self._document, language, anchors, title_level, self._speaker))
            self._anchors = set()
        notes, self._held_notes = self._held_notes, []
        for note in notes:
            text = NOTE_MARKS.sub("", all_text(note))
            if text:
                self._blocks.append(Block("footnote", text, self._document, language))


def kind_of(element: Any, name: str, outside: str) -> str:
    """The kind of the blocks in an element."""
    if name in HEADINGS:
        return "title"
    if name == "blockquote":
        return "quote"
    if name == "figcaption":
        return "caption"
    if name in ("li", "dd", "dt") and outside == "text":
        return "list"
    if types(element) & {"bridgehead", "title"}:
        return "title"
    return outside


def language_of(element: Any, outside: str | None) -> str | None:
    return element.get(XML_LANGUAGE) or element.get("lang") or outside
