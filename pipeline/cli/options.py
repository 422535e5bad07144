"""Arguments and options that several commands share, and what turns their text into objects."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pipeline.errors import ConfigError
from pipeline.log import LogFormat as Format
from pipeline.log import configure
from pipeline.storage.store import Store

if TYPE_CHECKING:
    import numpy as np


def set_log_format(value: Format | None) -> Format | None:
    """Configure the logger if the option was given. It is accepted before and after the command's name."""
    if value is not None:
        configure(value)
    return value


LogFormat = Annotated[
    Format | None,
    typer.Option(
        "--log-format",
        callback=set_log_format,
        help="Messages on stderr: plain text, or one JSON object per line. (default: text)",
    ),
]
ConfigPath = Annotated[Path, typer.Argument(metavar="CONFIG", help="YAML file of the run; see configs/ for examples.")]
ManifestUrl = Annotated[str | None, typer.Option("--manifest", metavar="URL", help="Override the config's manifest.")]
OutputUrl = Annotated[str | None, typer.Option("--output", metavar="URL", help="Override the config's output.")]
Limit = Annotated[int | None, typer.Option("--limit", metavar="N", help="Only the first N rows of the manifest.")]
Changes = Annotated[
    list[str] | None, typer.Option("--set", metavar="A.B=C", help="Override one setting of the config; repeatable.")
]
Address = Annotated[
    str | None,
    typer.Option("--address", help="Ray cluster to join. (default: RAY_ADDRESS, else a new local Ray)"),
]
Output = Annotated[str, typer.Argument(metavar="OUTPUT", help="Output folder of a run: a path or any fsspec URL.")]
Storage = Annotated[
    list[str] | None, typer.Option("--storage", metavar="KEY=VALUE", help="Storage option for fsspec; repeatable.")
]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")]


def open_store(output: str, storage: list[str] | None) -> Store:
    """The output folder as a store, with `--storage` options parsed as YAML values.

    Raises:
        ConfigError: an option is not KEY=VALUE, or its value is not valid YAML.
    """
    if not storage:
        return Store(output)
    from pipeline.config import from_yaml

    pairs = [option.partition("=") for option in storage]
    if not all(sign for _, sign, _ in pairs):
        raise ConfigError("--storage: must be KEY=VALUE, as in storage_options")
    return Store(output, {key: from_yaml(value, f"--storage {key}") for key, _, value in pairs})


def check_sound_file(path: Path) -> None:
    """Raise ConfigError if no sound file can be written to this path: its ending, or its folder."""
    from pipeline.shards.audio import SUBTYPES

    if sound_format(path) not in SUBTYPES:
        raise ConfigError(f"{path}: must end in {', '.join('.' + s for s in SUBTYPES)}")
    if not path.parent.is_dir():
        raise ConfigError(f"{path}: its folder does not exist")
    if path.is_dir():
        raise ConfigError(f"{path}: is a folder; name a file")


def write_sound_file(path: Path, samples: "np.ndarray") -> None:
    """Write (N,) int16 samples at 24 kHz, in the format that the file's ending names."""
    from pipeline.shards.audio import encode

    Store(str(path.parent.absolute())).put(path.name, encode(samples, sound_format(path)))


def sound_format(path: Path) -> str:
    return path.suffix.lower().removeprefix(".")
