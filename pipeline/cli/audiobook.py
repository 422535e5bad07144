"""`barkery audiobook`: books in, audiobooks out."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pipeline.cli import exit_codes
from pipeline.cli.options import Address, Changes, LogFormat
from pipeline.errors import ConfigError, redact
from pipeline.log import log

if TYPE_CHECKING:
    from pipeline.audiobook.config import AudiobookConfig
    from pipeline.audiobook.job import Shelf

BOOK_HELP = "EPUB, Markdown, HTML, plain text or an edited manifest; a folder or a glob; a path or any fsspec URL."


def audiobook(
    books: Annotated[list[str], typer.Argument(metavar="BOOK...", help=BOOK_HELP)],
    output: Annotated[
        str | None, typer.Option("-o", "--output", metavar="DIR", help="Folder for the results: a path or URL.")
    ] = None,
    config: Annotated[Path | None, typer.Option(help="YAML file, such as configs/audiobook.yaml.")] = None,
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
    lexicon: Annotated[
        str | None, typer.Option(metavar="FILE", help="YAML list of respellings; see docs/audiobook.md.")
    ] = None,
    voices: Annotated[
        str | None, typer.Option(metavar="FILE", help="YAML: voices of the narrator, of speakers, of kinds of text.")
    ] = None,
    address: Address = None,
    log_format: LogFormat = None,
) -> None:
    """Turn books into audiobooks: DIR/STEM.m4b with chapters, subtitles, and a record of times in DIR/STEM.json.

    Run again to go on after a stop, or after an edit: only what is new or changed is spoken."""
    from pipeline.audiobook.config import load_audiobook_config
    from pipeline.audiobook.job import make_audiobooks, open_output, read_scripts
    from pipeline.audiobook.manifest import write_manifest
    from pipeline.books.lexicon import parse_lexicon
    from pipeline.books.open import find_books, read_file
    from pipeline.books.voices import parse_voices

    if preview and manifest_only:
        raise ConfigError("--preview and --manifest-only: choose one")
    if csv and not manifest_only:
        raise ConfigError("--csv needs --manifest-only")
    settings = load_audiobook_config(config, changes)
    urls = find_books(books)
    if preview:
        show_previews(urls, settings, chapters)
        return
    if output is None:
        raise ConfigError("-o DIR is missing: where to write the results")
    store = open_output(output, settings)
    respellings = parse_lexicon(redact(lexicon), read_file(lexicon)) if lexicon else None
    cast = parse_voices(redact(voices), read_file(voices)) if voices else None
    if cast and cast.narrator:
        settings = settings.model_copy(update={"narrator": cast.narrator})
    scripts = read_scripts(urls, settings, chapters, respellings, cast)
    if not manifest_only:
        report(make_audiobooks(scripts, store, settings, address), redact(output).rstrip("/"))
        return
    for script in scripts:
        name = write_manifest(store, script, csv)
        count = len({row.chapter for row in script.rows})
        print(f"{redact(output).rstrip('/')}/{name}: {count:,} chapters, {len(script.rows):,} sentences")


def show_previews(urls: list[str], settings: "AudiobookConfig", chapters: str | None) -> None:
    from pipeline.books.chosen import choose, parse_chapters
    from pipeline.books.open import read_book
    from pipeline.books.preview import preview
    from pipeline.books.rows import sentences_of

    wanted = parse_chapters(chapters) if chapters else None
    for url in urls:
        if url.lower().endswith(".parquet"):
            raise ConfigError(f"{redact(url)}: is a manifest; --preview shows books")
        book = read_book(url, settings.book)
        rows = choose(list(sentences_of(book, settings.book)), wanted, redact(url))
        print("\n".join(preview(book, rows, settings.book)) + "\n")


def report(shelf: "Shelf", output: str) -> None:
    """Print what was made; exit with code 3 if a sentence is missing."""
    for book in shelf.books:
        if book.is_made:
            lost = f", {sentences(len(book.missing))} missing" if book.missing else ""
            print(f"{output}/{book.stem}.m4b: {book.duration_s / 60:.1f} minutes{lost}")
        else:
            print(f"{output}/{book.stem}.m4b: not made, {sentences(len(book.missing))} missing")
    print(f"{sentences(shelf.num_new)} spoken, {shelf.num_kept:,} kept")
    if shelf.num_missing:
        log.warning(
            f"{sentences(shelf.num_missing)} failed; change the text in the book or its manifest and run again, or "
            "set sound.missing to pause or tone"
        )
        raise typer.Exit(exit_codes.FAILED_ROWS)


def sentences(number: int) -> str:
    return f"{number:,} sentence" if number == 1 else f"{number:,} sentences"
