"""The languages that Bark speaks."""

from pipeline.books.book import Book, BookSettings
from pipeline.books.sentences import base
from pipeline.errors import ConfigError

# Source: suno-ai/bark README, "Supported Languages"
LANGUAGES = ("en", "de", "es", "fr", "hi", "it", "ja", "ko", "pl", "pt", "ru", "tr", "zh")


def reason_not_spoken(book: Book, settings: BookSettings) -> str | None:
    """Why Bark can't speak a book; None if it can. A book that names no language counts as English."""
    language = settings.language or book.about.language
    if not language or base(language) in LANGUAGES:
        return None
    return f"language {language}: Bark speaks {', '.join(LANGUAGES)}; set book.language if the book names it wrongly"


def check_language(book: Book, settings: BookSettings) -> None:
    """Raise ConfigError for a book in a language that Bark does not speak."""
    if reason := reason_not_spoken(book, settings):
        raise ConfigError(f"{book.stem}: {reason}")
