"""What would be spoken, for people: chapters, characters, hours, what is skipped, and how each chapter begins."""

from collections.abc import Iterator, Sequence

from pipeline.bark.text import spoken_chars
from pipeline.books.book import Book, BookSettings
from pipeline.books.language import reason_not_spoken
from pipeline.books.rows import Sentence

CHARS_PER_SECOND = 15  # as the limits of a segment assume: 190 characters in 13 s
MAX_TITLE, MAX_PARAGRAPH = 60, 300


def preview(book: Book, rows: Sequence[Sentence], settings: BookSettings) -> Iterator[str]:
    """Lines of text."""
    about = book.about
    by = f" by {', '.join(about.creators)}" if about.creators else ""
    yield printable(f"{book.stem}: {about.title or 'no title'}{by}")
    if reason := reason_not_spoken(book, settings):
        yield f"  not spoken: {printable(reason)}"
    total = sum(len(row.text) for row in rows)
    numbers = sorted({row.chapter for row in rows})
    language = settings.language or about.language or "en, since the book names none"
    counts = f"{len(numbers):,} chapters, {len(rows):,} sentences, {total:,} characters"
    yield f"  {counts}, about {hours(rows):.2f} hours; language {printable(language)}"
    for skip in book.skipped:
        yield f"  skipped: {printable(f'{skip.what} ({skip.why})')}"
    for number in numbers:
        mine = [row for row in rows if row.chapter == number]
        yield ""
        minutes = 60 * hours(mine)
        title = printable(mine[0].chapter_title)[:MAX_TITLE]
        yield f"  {number:3d}  {title}: {sum(len(row.text) for row in mine):,} characters, {minutes:.1f} minutes"
        yield f"       {first_paragraph(mine)}"


def first_paragraph(rows: Sequence[Sentence]) -> str:
    """The first paragraph of a chapter that is no heading, shortened."""
    first = next((row for row in rows if row.kind != "title"), rows[0])
    text = printable(" ".join(row.text for row in rows if row.paragraph == first.paragraph))
    return text if len(text) <= MAX_PARAGRAPH else f"{text[:MAX_PARAGRAPH]}..."


def hours(rows: Sequence[Sentence]) -> float:
    """The expected length, with pauses."""
    speech = sum(spoken_chars(row.text_spoken) for row in rows) / CHARS_PER_SECOND
    return (speech + sum(row.pause_after_s for row in rows)) / 3600


def printable(text: str) -> str:
    """The text without characters that could control a terminal."""
    return "".join(c if c.isprintable() else " " for c in text)
