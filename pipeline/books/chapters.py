"""Cuts a book's blocks into chapters where its table of contents says."""

from collections.abc import Sequence
from itertools import takewhile

from pipeline.books.book import Block, Chapter
from pipeline.books.toc import Entry

FRONT_MATTER = "Front matter"


def by_contents(blocks: Sequence[Block], entries: Sequence[Entry], depth: int) -> tuple[list[Chapter], list[str]]:
    """Chapters in reading order; what comes before the first is a chapter of its own.

    Returns:
        The chapters, and the titles of entries that lead to no text.
    """
    starts: dict[int, str] = {}
    lost = []
    for entry in (e for e in entries if e.level <= depth):
        start = position(blocks, entry)
        if start is None:
            lost.append(entry.title)
        else:
            starts.setdefault(start, entry.title)
    edges = sorted(starts)
    if not edges or edges[0] > 0:
        edges.insert(0, 0)
    parts = [blocks[a:b] for a, b in zip(edges, [*edges[1:], len(blocks)], strict=True)]
    return [
        Chapter(starts.get(a) or heading(part), tuple(part)) for a, part in zip(edges, parts, strict=True) if part
    ], lost


def position(blocks: Sequence[Block], entry: Entry) -> int | None:
    """The number of the block at which an entry begins; None if there is none."""
    inside = [i for i, block in enumerate(blocks) if block.document == entry.document]
    if not inside:
        return None
    if not entry.fragment:
        return inside[0]
    return next((i for i in inside if entry.fragment in blocks[i].anchors), None)


def by_headings(blocks: Sequence[Block], depth: int) -> list[Chapter]:
    """Chapters for a book without a table of contents: one per heading of the `depth` outermost levels that occur.

    A single heading at the outermost level is the book's title, and does not count as a level.
    """
    levels = sorted({block.level for block in blocks if block.level})
    if levels and sum(block.level == levels[0] for block in blocks) == 1 and len(levels) > 1:
        depth += 1
    wanted = set(levels[:depth])
    entries = []
    for i, block in enumerate(blocks):
        is_first = i == 0 or not blocks[i - 1].level  # a title and its subtitle begin one chapter
        if block.level in wanted and is_first:
            entries.append(i)
    edges = entries if entries[:1] == [0] else [0, *entries]
    parts = [blocks[a:b] for a, b in zip(edges, [*edges[1:], len(blocks)], strict=True)]
    return [Chapter(heading(part, wanted), tuple(part)) for part in parts if part]


def heading(blocks: Sequence[Block], levels: set[int] | None = None) -> str:
    """The title of a chapter that the table of contents does not name: of the headings at its start the first, or the
    last of these levels (the book's title may come before that of the first chapter)."""
    titles = list(takewhile(lambda block: block.kind == "title", blocks))
    wanted = [block for block in titles if levels and block.level in levels]
    return (wanted[-1:] or titles)[0].text if titles else FRONT_MATTER


def notes_last(chapter: Chapter) -> Chapter:
    """The chapter with its footnotes at its end."""
    notes = [block for block in chapter.blocks if block.kind == "footnote"]
    return Chapter(chapter.title, (*(block for block in chapter.blocks if block.kind != "footnote"), *notes))
