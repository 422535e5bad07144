"""A book as a manifest: written for review, and read back after it was edited by hand."""

import base64
import io
import json
from dataclasses import asdict, dataclass
from typing import Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from pipeline.books.book import About, BookSettings
from pipeline.books.language import check_language
from pipeline.books.lexicon import Lexicon
from pipeline.books.open import read_book, stem_of
from pipeline.books.rows import SCHEMA, Sentence, sentences_of, to_table
from pipeline.books.voices import Voices
from pipeline.errors import ConfigError, one_line, redact
from pipeline.storage.store import Store

ABOUT = "_work/books"  # beside the manifest: what its columns don't say


@dataclass(frozen=True)
class Script:
    """One book, ready to be spoken."""

    stem: str
    about: About
    rows: list[Sentence]


def read_script(
    url: str, settings: BookSettings, lexicon: Lexicon | None = None, voices: Voices | None = None
) -> Script:
    """Read a book, or a manifest that `write_manifest` wrote; raises ConfigError."""
    if url.lower().endswith(".parquet"):
        return read_manifest(url)
    book = read_book(url, settings)
    check_language(book, settings)
    return Script(book.stem, book.about, list(sentences_of(book, settings, lexicon, voices)))


def write_manifest(store: Store, script: Script, csv: bool = False) -> str:
    """Write STEM.parquet, and STEM.csv if wanted; returns the name."""
    table, name = to_table(script.rows), f"{script.stem}.parquet"
    content = io.BytesIO()
    pq.write_table(table, content)
    about = asdict(script.about) | {"cover": base64.b64encode(script.about.cover).decode()}
    store.put(f"{ABOUT}/{script.stem}.json", json.dumps(about, ensure_ascii=False).encode())
    store.put(name, content.getvalue())
    if csv:
        content = io.BytesIO()
        pyarrow.csv.write_csv(table, content)
        store.put(f"{script.stem}.csv", content.getvalue())
    return name


def read_manifest(url: str) -> Script:
    """Read an edited manifest. Title, creators and cover come from the file that was written beside it."""
    folder, _, name = url.rpartition("/")
    store, shown = Store(folder or "."), redact(url)
    try:
        table = pq.read_table(io.BytesIO(store.get(name)))
        missing = [column for column in SCHEMA.names if column not in table.column_names]
        if missing:
            raise ConfigError(f"{shown}: column {missing[0]} is missing")
        rows = [Sentence(**row) for row in table.select(SCHEMA.names).cast(SCHEMA).to_pylist()]
    except FileNotFoundError as error:
        raise ConfigError(f"{shown}: no such file") from error
    except (pa.ArrowException, ValueError) as error:
        raise ConfigError(f"{shown}: is no manifest of a book: {one_line(error)}") from error
    stem = stem_of(url)
    check_rows(shown, rows)
    try:
        about = to_about(json.loads(store.get(f"{ABOUT}/{stem}.json")))
    except FileNotFoundError:
        about = About(title=stem, language=rows[0].language)
    return Script(stem, about, rows)


def check_rows(name: str, rows: list[Sentence]) -> None:
    """Raise ConfigError for a row without id, text or pause, or with an id or chapter that can't be."""
    if not rows:
        raise ConfigError(f"{name}: has no rows")
    ids: set[str] = set()
    for number, row in enumerate(rows):
        for column in ("id", "text_spoken", "chapter", "language"):
            if not getattr(row, column):
                raise ConfigError(f"{name} row {number}: column {column} is empty")
        if row.id in ids:
            raise ConfigError(f"{name} row {number}: column id: {row.id!r} was already used")
        if row.pause_after_s is None or not 0 <= row.pause_after_s <= 60:
            raise ConfigError(f"{name} row {number}: column pause_after_s must be 0 to 60, is {row.pause_after_s}")
        ids.add(row.id)


def to_about(values: dict[str, Any]) -> About:
    values = values | {"creators": tuple(values["creators"]), "cover": base64.b64decode(values["cover"])}
    return About(**values)
