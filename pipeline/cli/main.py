"""The front door: `barkery generate`, `retry`, `status`, `verify`, `say`, `voices`, `bench`.

Exit codes: 0 all written, 3 complete with failed rows, 2 wrong usage or config, 1 did not complete.
"""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn, Optional

import typer

from pipeline.errors import BarkeryError, ConfigError, IncompleteError, redact
from pipeline.storage.store import Store

if TYPE_CHECKING:
    from pipeline.shards.reader import RowCounts

EXIT_INCOMPLETE, EXIT_CONFIG, EXIT_FAILED_ROWS = 1, 2, 3

app = typer.Typer(
    help="Tables of text to datasets of speech, on Suno's Bark.", no_args_is_help=True, pretty_exceptions_enable=False
)

# Optional[...], not `| None`: what typer reads at run time
ConfigPath = Annotated[Path, typer.Argument(metavar="CONFIG", help="YAML of the run; configs/ has examples.")]
ManifestUrl = Annotated[Optional[str], typer.Option("--manifest", metavar="URL", help="Instead of the config's.")]  # noqa: UP045
OutputUrl = Annotated[Optional[str], typer.Option("--output", metavar="URL", help="Instead of the config's.")]  # noqa: UP045
Limit = Annotated[Optional[int], typer.Option("--limit", metavar="N", help="The first N rows only.")]  # noqa: UP045
Changes = Annotated[Optional[list[str]], typer.Option("--set", metavar="A.B=C", help="Change one setting.")]  # noqa: UP045
Address = Annotated[
    Optional[str],  # noqa: UP045
    typer.Option("--address", help="Ray cluster to join; by default RAY_ADDRESS, else one of its own here."),
]
Output = Annotated[str, typer.Argument(metavar="OUTPUT", help="URL of a run's output folder.")]
Storage = Annotated[Optional[list[str]], typer.Option("--storage", metavar="KEY=VALUE", help="For fsspec.")]  # noqa: UP045


@app.command()
def generate(
    config: ConfigPath,
    manifest: ManifestUrl = None,
    output: OutputUrl = None,
    limit: Limit = None,
    changes: Changes = None,
    address: Address = None,
) -> None:
    """Speak a manifest: audio shards and metadata in the output folder. Run again to go on after a stop."""
    from pipeline.config import load_config
    from pipeline.flow.driver import run

    settings = load_config(config, changes, manifest=manifest, output=output, limit=limit)
    conclude(run(settings, address), settings.output)


@app.command()
def retry(
    output: Output,
    seed: Annotated[Optional[int], typer.Option(min=0, help="Of the retry; by default the last one's plus 1.")] = None,  # noqa: UP045
    changes: Changes = None,
    storage: Storage = None,
    address: Address = None,
) -> None:
    """Try the rows that failed once more, with a new seed or changed settings. What they were stays on record."""
    from pipeline.flow.driver import retry

    conclude(retry(open_store(output, storage), seed, changes or [], address), output)


def conclude(counts: "RowCounts", output: str) -> None:
    output = redact(output)
    print(f"{counts} in {output}")
    if counts.failed:
        print(f"failed rows, with reasons: {output}/failures", file=sys.stderr)
        raise typer.Exit(EXIT_FAILED_ROWS)


@app.command()
def status(output: Output, storage: Storage = None) -> None:
    """Where a run stands, while it works or after it stopped: from its plan and commits alone."""
    from pipeline.shards import verify as shards

    store = open_store(output, storage)
    found = shards.status(store)
    print("\n".join(found.lines))
    for kind, count in shards.failure_kinds(store, found.current_failures).most_common():
        print(f"         {count:,} failed: {kind}")


@app.command()
def verify(output: Output, storage: Storage = None) -> None:
    """Check everything that is committed: hashes, counts, ids, every clip; exit code 1 where something is wrong."""
    from pipeline.shards import verify as shards

    report = shards.verify(open_store(output, storage))
    for problem in report.problems:
        print(problem, file=sys.stderr)
    print(f"{report.counts}; {report.clips:,} clips decoded")
    print(f"{report.missing_shards:,} shards not made yet; {len(report.problems):,} problems")
    if report.problems:
        raise typer.Exit(EXIT_INCOMPLETE)


def open_store(output: str, storage: list[str] | None) -> Store:
    if not storage:
        return Store(output)
    from pipeline.config import from_yaml

    pairs = [each.partition("=") for each in storage]
    if not all(sign for _, sign, _ in pairs):
        raise ConfigError("--storage: must be KEY=VALUE, as in storage_options")
    return Store(output, {name: from_yaml(value, f"--storage {name}") for name, _, value in pairs})


@app.command()
def say(
    text: Annotated[str, typer.Argument(help="What to say; a long text is split and joined.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="Sound file: .wav, .flac or .mp3.")] = Path("say.wav"),
    model: Annotated[str, typer.Option(help="puppy (built in), a local folder, or a hub id.")] = "puppy",
    voice: Annotated[Optional[str], typer.Option(help="One of the model's, a preset, or an .npz.")] = None,  # noqa: UP045
    seed: Annotated[Optional[int], typer.Option(help="For the same sound again.")] = None,  # noqa: UP045
    tokenizer: Annotated[Optional[str], typer.Option(help="Folder or hub id, for Suno's layout.")] = None,  # noqa: UP045
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
) -> None:
    """Say one text into a sound file."""
    import secrets

    from pipeline.bark.synthesize import Bark
    from pipeline.shards.audio import SUBTYPES, encode, to_int16

    audio_format = output.suffix.lower().removeprefix(".")
    if audio_format not in SUBTYPES:
        raise ConfigError(f"{output}: must end in {', '.join('.' + s for s in SUBTYPES)}")
    if not output.parent.is_dir():
        raise ConfigError(f"{output}: its folder does not exist")
    if output.is_dir():
        raise ConfigError(f"{output}: is a folder; name a file")
    seed = secrets.randbits(32) if seed is None else seed
    samples = Bark.load(model, device=device, tokenizer=tokenizer).say(text, voice=voice, seed=seed)
    Store(str(output.parent.absolute())).put(output.name, encode(to_int16(samples), audio_format))
    print(f"{output}: {samples.size / 24_000:.2f} s, seed {seed}")


@app.command()
def bench(
    model: Annotated[str | None, typer.Argument(help="Folder or hub id; else random weights.")] = None,
    rows: Annotated[int, typer.Option(min=1, help="How many.")] = 8,
    min_s: Annotated[float, typer.Option(min=0.1, max=15.3, help="Seconds of the shortest row.")] = 2.0,
    max_s: Annotated[float, typer.Option(min=0.1, max=15.3, help="Seconds of the longest row.")] = 8.0,
    voice: Annotated[Optional[str], typer.Option(help="Preset, or path of an .npz.")] = None,  # noqa: UP045
    slots: Annotated[Optional[int], typer.Option(help="Utterances side by side.")] = None,  # noqa: UP045
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
    dtype: Annotated[str, typer.Option(help="auto, float32, bfloat16 or float16.")] = "auto",
    quantize: Annotated[Optional[str], typer.Option(help="int8: faster on a CPU, not exact.")] = None,  # noqa: UP045
) -> None:
    """How fast each stage is on this machine, beside what the machine can do at all. The last line is JSON."""
    import json

    from pipeline.bench.bench import bench as run_bench

    how = {"slots": slots, "device": device, "dtype": dtype, "quantize": quantize}
    print(json.dumps(run_bench(model, rows=rows, min_s=min_s, max_s=max_s, voice=voice, **how)))


@app.command()
def voices(
    model: Annotated[Optional[str], typer.Option(help="List this model's own voices.")] = None,  # noqa: UP045
) -> None:
    """List the voice presets of Suno's models, or the voices that lie beside a model."""
    from pipeline.bark.voice import own_voices, preset_names
    from pipeline.checkpoints.hub import resolve

    print("\n".join(own_voices(resolve(model)) if model else preset_names()))


def main() -> NoReturn:
    """Run the command line; a user's mistake is one line and exit code 2, never a traceback."""
    try:
        app()  # ends the process itself: 0, typer.Exit's code, or 2 for wrong usage
    except IncompleteError as error:
        stop(error, EXIT_INCOMPLETE)
    except BarkeryError as error:
        stop(error, EXIT_CONFIG)
    sys.exit(0)


def stop(error: Exception, code: int) -> NoReturn:
    print(f"error: {redact(str(error))}", file=sys.stderr)
    sys.exit(code)


if __name__ == "__main__":
    main()
