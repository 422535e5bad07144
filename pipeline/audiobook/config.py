"""The settings of an audiobook: those of a run, and how a book is read."""

from pathlib import Path

from pipeline.books.book import BookSettings
from pipeline.config import RunConfig, parse_as, read_yaml, set_key


class AudiobookConfig(RunConfig):
    """All settings; `configs/audiobook.yaml` explains them."""

    model: str = "puppy"
    manifest: str = ""  # made from the books
    output: str = ""  # a folder below the audiobooks' own
    book: BookSettings = BookSettings()


def load_audiobook_config(path: Path | None, changes: list[str] | None = None) -> AudiobookConfig:
    """Read a YAML config, or take the defaults if there is none; raises ConfigError as `load_config`."""
    values = read_yaml(path) if path else {}
    for change in changes or []:
        set_key(values, change)
    return parse_as(AudiobookConfig, values, str(path or "--set"))
