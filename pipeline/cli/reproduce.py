"""`barkery reproduce`: make rows of an output again, and compare."""

import secrets
from pathlib import Path
from typing import Annotated

import typer

from pipeline.cli import exit_codes
from pipeline.cli.options import LogFormat, Output, Storage, check_sound_file, open_store, write_sound_file
from pipeline.errors import ConfigError


def reproduce(
    output: Output,
    row_id: Annotated[str | None, typer.Argument(metavar="ID", help="Id of the row to make again.")] = None,
    clip: Annotated[
        Path | None, typer.Option("-o", "--output", help="Write the new clip here: .flac, .wav or .mp3.")
    ] = None,
    sample: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Instead of ID: N rows, drawn at random.")
    ] = None,
    model: Annotated[str | None, typer.Option(help="Where the model is now. (default: where the run found it)")] = None,
    storage: Storage = None,
    log_format: LogFormat = None,
) -> None:
    """Make a row again from what the output has recorded, and say whether its samples are the same (1 if not)."""
    from pipeline.reproduce.compare import reproduce as run_reproduce
    from pipeline.reproduce.find import find_row, random_rows

    if (row_id is None) == (sample is None):
        raise ConfigError("name one row's ID, or --sample N")
    if clip and row_id is None:
        raise ConfigError("-o: needs the ID of one row")
    if clip:
        check_sound_file(clip)
    store = open_store(output, storage)
    rows = (
        [find_row(store, row_id)] if row_id is not None else list(random_rows(store, sample or 0, secrets.randbits(32)))
    )
    found = list(run_reproduce(store, rows, model))
    for each in found:
        if row_id is not None or not each.is_identical:
            print(f"row {each.id!r}: {each.result}")
    different = [each for each in found if not each.is_identical]
    for line in dict.fromkeys(line for each in different for line in each.environment):
        print(f"  {line}")
    if different and not any(each.environment for each in different):
        print("  the environment is the recorded one")
    if sample is not None:
        print(f"{len(found) - len(different):,} of {len(found):,} rows are identical")
    if clip and not found[0].error:
        write_sound_file(clip, found[0].samples)
        print(f"{clip}: written")
    if different:
        raise typer.Exit(exit_codes.INCOMPLETE)
