"""`barkery audiobook`: books in, audiobooks out."""

import io
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pipeline.cli.options import Changes, LogFormat
from pipeline.errors import ConfigError, redact

if TYPE_CHECKING:
    from pipeline.books.rows import Sentence

BOOK_HELP = "EPUB, Markdown, HTML or plain text; a folder or a glob of them; a path or any fsspec URL."


def audiobook(
    books: Annotated[list[str], typer.Argument(metavar="BOOK...", help=BOOK_HELP)],
    output: Annotated[
        str | None, typer.Option("-o", "--output", metavar="DIR", help="Folder for the results: a path or URL.")
    ] = None,
    config: Annotated[Path | None, typer.Option(help="YAML file of settings. (default: none)")] = None,
    changes: Changes = None,
    manifest_only: Annotated[
        bool, typer.Option("--manifest-only", help="Write DIR/STEM.parquet, one row per sentence, and stop.")
    ] = False,
    csv: Annotated[bool, typer.Option("--csv", help="With --manifest-only: DIR/STEM.csv, too.")] = False,
    preview: Annotated[
        bool, typer.Option("--preview", help="Print chapters, characters, hours, what is skipped; write nothing.")
    ] = False,
    chapters: Annotated[
        str | None, typer.Option(metavar="N-M,...", help="Only these chapters, by number. (default: all)")
    ] = None,
    log_format: LogFormat = None,
) -> None:
    """Read books into chapters and sentences: a preview, or a manifest to review and to speak."""
    from pipeline.audiobook.config import load_audiobook_config
    from pipeline.books.chosen import parse_chapters
    from pipeline.books.language import check_language
    from pipeline.books.open import find_books, read_book
    from pipeline.books.preview import preview as preview_lines
    from pipeline.books.rows import sentences_of

    settings = load_audiobook_config(config, changes).book
    wanted = parse_chapters(chapters) if chapters else None
    if preview == manifest_only:
        raise ConfigError("say what to do: --preview or --manifest-only")
    if manifest_only and output is None:
        raise ConfigError("--manifest-only needs -o DIR")
    for url in find_books(books):
        book = read_book(url, settings)
        rows = [row for row in sentences_of(book, settings) if wanted is None or any(row.chapter in r for r in wanted)]
        if not rows:
            raise ConfigError(f"{redact(url)}: has none of the chapters {chapters}: it has {len(book.chapters)}")
        if preview:
            print("\n".join(preview_lines(book, rows, settings)) + "\n")
        else:
            check_language(book, settings)
            write_manifest(str(output), book.stem, rows, csv)


def write_manifest(output: str, stem: str, rows: "list[Sentence]", csv: bool) -> None:
    import pyarrow.csv
    import pyarrow.parquet as pq

    from pipeline.books.rows import to_table
    from pipeline.storage.store import Store

    store, table = Store(output), to_table(rows)
    content = io.BytesIO()
    pq.write_table(table, content)
    store.put(f"{stem}.parquet", content.getvalue())
    if csv:
        content = io.BytesIO()
        pyarrow.csv.write_csv(table, content)
        store.put(f"{stem}.csv", content.getvalue())
    chapters = len({row.chapter for row in rows})
    print(f"{redact(output).rstrip('/')}/{stem}.parquet: {chapters:,} chapters, {len(rows):,} sentences")
