"""Chapters that were chosen by number, such as `2-5,8`."""

import re
from collections.abc import Sequence

from pipeline.books.rows import Sentence
from pipeline.errors import ConfigError

PART = re.compile(r"(\d{1,6})(?:-(\d{0,6}))?")


def parse_chapters(text: str) -> list[range]:
    """Ranges of chapter numbers from 1; `7-` is the seventh and all after it.

    Raises:
        ConfigError: the text is not of this form.
    """
    ranges = []
    for part in text.split(","):
        match = PART.fullmatch(part.strip())
        if match is None:
            raise ConfigError(f"--chapters {text}: must be numbers and ranges, such as 2-5,8")
        first = int(match[1])
        last = first if match[2] is None else int(match[2] or 10**6)
        if not 1 <= first <= last:
            raise ConfigError(f"--chapters {text}: {part.strip()} has no chapters; the first is 1")
        ranges.append(range(first, last + 1))
    return ranges


def choose(rows: Sequence[Sentence], wanted: Sequence[range] | None, name: str) -> list[Sentence]:
    """The rows of the wanted chapters; all rows if `wanted` is None.

    Args:
        name: of the book, for messages.

    Raises:
        ConfigError: the book has none of these chapters.
    """
    if wanted is None:
        return list(rows)
    chosen = [row for row in rows if any(row.chapter in numbers for numbers in wanted)]
    if not chosen:
        last = max((row.chapter for row in rows), default=0)
        raise ConfigError(f"{name}: has none of the chapters that --chapters names; its last is {last}")
    return chosen
