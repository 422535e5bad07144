"""`barkery report`: a page to listen to."""

from typing import Annotated

import typer

from pipeline.cli.options import Address, LogFormat, Output, Storage, open_store
from pipeline.errors import redact


def report(
    output: Output,
    target: Annotated[
        str, typer.Option("-o", "--output", metavar="FILE", help="The page: a path or URL.")
    ] = "report.html",
    clips: Annotated[int, typer.Option(min=1, max=5000, help="At most this many clips.")] = 200,
    storage: Storage = None,
    address: Address = None,
    log_format: LogFormat = None,
) -> None:
    """Write one HTML file with the run's numbers and clips to listen to: the worst, random ones, some of each voice."""
    from pipeline.report.page import make_report, write_report

    store = open_store(output, storage)
    made = make_report(store, clips, address)
    write_report(target, made.html, store.storage_options)
    failed = f" and {made.failed:,} failed rows" if made.failed else ""
    print(f"{redact(target)}: {made.clips:,} clips{failed}, {len(made.html) / 1e6:.1f} MB")
