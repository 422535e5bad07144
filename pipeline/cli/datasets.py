"""`barkery export` and `barkery push`: an output as files that trainers load, and these on the hub."""

from pathlib import Path
from typing import Annotated

import typer

from pipeline.cli.options import Address, LogFormat, Output, Storage, open_store
from pipeline.errors import redact
from pipeline.storage.store import absolute_url

FORMAT_HELP = "hf, webdataset, nemo, ljspeech, audiofolder, lhotse or kaldi."


def export(
    output: Output,
    format: Annotated[str, typer.Argument(metavar="FORMAT", help=FORMAT_HELP)],
    dest: Annotated[str, typer.Argument(metavar="DEST", help="New folder for the export: a path or any fsspec URL.")],
    where: Annotated[
        str | None, typer.Option(metavar="CONDITION", help='Only rows with this SQL condition: "duration > 2".')
    ] = None,
    split: Annotated[
        str | None, typer.Option(metavar="NAME=SHARE,...", help="Such as train=0.98,test=0.02. (default: train)")
    ] = None,
    split_by: Annotated[
        str, typer.Option(metavar="COLUMN", help="Rows with the same value are in the same split, such as voice.")
    ] = "id",
    sample_rate: Annotated[
        int | None, typer.Option(metavar="HZ", help="Resample, such as to 16000. (default: as it is)")
    ] = None,
    codec: Annotated[
        str | None, typer.Option(help="flac, wav, mp3 or opus. (default: as it is; wav for ljspeech and kaldi)")
    ] = None,
    storage: Storage = None,
    address: Address = None,
    log_format: LogFormat = None,
) -> None:
    """Write an output's clips as files that trainers load. Run again to go on after a stop; the output is only read."""
    from pipeline.export.job import export as run_export
    from pipeline.export.settings import ExportSettings, parse_splits

    settings = ExportSettings(format, where, parse_splits(split), split_by, sample_rate, codec)
    source, target = (open_store(absolute_url(url), storage) for url in (output, dest))
    result = run_export(source, target, settings, address)
    if not result.new_rows:
        print(f"{result.rows:,} clips, {megabytes(result.bytes)}, in {redact(dest)}: nothing to do")
        return
    rate = f"{result.new_rows / result.seconds:,.0f} clips/s, {megabytes(int(result.new_bytes / result.seconds))}/s"
    print(f"{result.rows:,} clips, {megabytes(result.bytes)}, in {redact(dest)}; {result.seconds:.1f} s, {rate}")


def megabytes(count: int) -> str:
    return f"{count / 1e6:,.1f} MB"


def push(
    folder: Annotated[Path, typer.Argument(metavar="EXPORT", help="Local folder of a finished `barkery export`.")],
    repo_id: Annotated[str, typer.Argument(metavar="REPO_ID", help="Dataset on the hub, such as you/your-speech.")],
    private: Annotated[bool, typer.Option("--private", help="Create it as a private dataset.")] = False,
    log_format: LogFormat = None,
) -> None:
    """Publish an export on the Hugging Face hub. Log in with `hf auth login`; run again to go on after a stop."""
    from pipeline.export.push import push as run_push

    print(run_push(folder, repo_id, private))
