"""`barkery plan`: what a run will be, before anything is spent."""

from typing import Annotated

import typer

from pipeline.cli.options import Changes, ConfigPath, Limit, LogFormat, ManifestUrl, OutputUrl


def plan(
    config: ConfigPath,
    manifest: ManifestUrl = None,
    output: OutputUrl = None,
    limit: Limit = None,
    changes: Changes = None,
    probe: Annotated[int, typer.Option(min=0, metavar="N", help="Speak N rows to measure; 20 are enough.")] = 0,
    price_per_hour: Annotated[
        float | None, typer.Option(min=0, help="Of all machines of the run together; needs --probe.")
    ] = None,
    address: Annotated[
        str | None, typer.Option(help="Ray cluster that speaks the probe. (default: this process)")
    ] = None,
    log_format: LogFormat = None,
) -> None:
    """Say what a run will be: rows, failures, hours of audio, bytes; with --probe also hours of work and cost."""
    from pipeline.config import load_config
    from pipeline.estimate.estimate import plan_run

    settings = load_config(config, changes, manifest=manifest, output=output, limit=limit)
    print("\n".join(plan_run(settings, probe, price_per_hour, address).lines()))
