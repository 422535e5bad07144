"""`barkery judge`: measures a finished output."""

from pathlib import Path
from typing import Annotated

import typer

from pipeline.cli import exit_codes
from pipeline.cli.options import Address, LogFormat, Output, Storage, open_store
from pipeline.errors import redact
from pipeline.storage.store import absolute_url


def judge(
    output: Output,
    config: Annotated[
        Path | None,
        typer.Option(metavar="CONFIG", help="YAML file with `quality` and `judges`. (default: the run's own)"),
    ] = None,
    storage: Storage = None,
    address: Address = None,
    log_format: LogFormat = None,
) -> None:
    """Measure an output's clips, by the limits and judges of a config, into its folder quality; nothing is spoken."""
    from pipeline.judge.job import judge_output

    parts = judge_output(open_store(absolute_url(output), storage), config, address)
    rows, rejected = (sum(getattr(part, name) for part in parts) for name in ("rows", "rejected"))
    print(f"judged {rows:,} rows: accepted {rows - rejected:,}, rejected {rejected:,}; in {redact(output)}/quality")
    if rejected:
        raise typer.Exit(exit_codes.FAILED_ROWS)
