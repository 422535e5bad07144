"""`barkery generate` and `barkery retry`: the two commands that start Ray."""

from typing import TYPE_CHECKING, Annotated

import typer

from pipeline.cli import exit_codes
from pipeline.cli.options import (
    Address,
    Changes,
    ConfigPath,
    Limit,
    LogFormat,
    ManifestUrl,
    Output,
    OutputUrl,
    Storage,
    open_store,
)
from pipeline.errors import redact
from pipeline.log import fields, log

if TYPE_CHECKING:
    from pipeline.shards.reader import RowCounts


def generate(
    config: ConfigPath,
    manifest: ManifestUrl = None,
    output: OutputUrl = None,
    limit: Limit = None,
    changes: Changes = None,
    address: Address = None,
    budget_hours: Annotated[
        float | None, typer.Option(min=0, help="Stop cleanly after this many hours; run again to go on.")
    ] = None,
    log_format: LogFormat = None,
) -> None:
    """Turn a manifest into speech: audio shards and metadata in the output folder. Run again to resume after a stop."""
    from pipeline.config import load_config
    from pipeline.flow.driver import run

    settings = load_config(config, changes, manifest=manifest, output=output, limit=limit)
    report(run(settings, address, budget_hours), settings.output)


def retry(
    output: Output,
    seed: Annotated[int | None, typer.Option(min=0, help="Seed for the retry. (default: previous + 1)")] = None,
    changes: Changes = None,
    storage: Storage = None,
    address: Address = None,
    log_format: LogFormat = None,
) -> None:
    """Try the failed rows once more, with a new seed or changed settings. The earlier failures stay on record."""
    from pipeline.flow import driver

    report(driver.retry(open_store(output, storage), seed, changes or [], address), output)


def report(counts: "RowCounts", output: str) -> None:
    """Print the totals of a finished run; exit with code 3 if rows failed."""
    output = redact(output)
    print(f"{counts} in {output}")
    if counts.is_gated:
        print(f"quality: {counts.verdicts}")
    if counts.failed:
        log.info(f"failed rows, with reasons: {output}/failures", extra=fields(failed=counts.failed))
        raise typer.Exit(exit_codes.FAILED_ROWS)
