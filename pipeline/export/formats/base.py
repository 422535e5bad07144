"""What a format is: it writes the files of one shard, and at the end those of the whole export."""

import gzip
import io
import json
import tarfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from pipeline.dataset.plain import json_value
from pipeline.export.clips import ExportClip
from pipeline.export.plan import ExportPlan, ExportShard
from pipeline.storage.store import Store


@dataclass(frozen=True)
class Written:
    """One file of an export."""

    name: str
    bytes: int


class Format(Protocol):
    """One of the formats of `barkery export`."""

    name: str
    codec: str | None  # of its sound files; None keeps each clip as it is
    how_to_load: str  # code for the card
    code_language: str  # of `how_to_load`, as Markdown names it
    media_type: str  # of the files with the sounds, for Croissant
    sound_files: str  # glob of these files, with {split} and {folder}

    def write(self, dest: Store, plan: ExportPlan, shard: ExportShard, clips: Iterator[ExportClip]) -> list[Written]:
        """Write all files of one shard. Running it twice writes the same bytes under the same names."""

    def finish(self, dest: Store, plan: ExportPlan, shards: Iterable[ExportShard]) -> None:
        """Write what needs all shards, after the last one."""

    def data_files(self, plan: ExportPlan, split: str) -> list[str]:
        """Globs of the files that `datasets.load_dataset` reads for a split; empty if it can't load the format."""


def to_json(values: Any) -> bytes:
    """One line of JSON, without a line end."""
    return json.dumps(json_value(values), ensure_ascii=False).encode()


def to_tar(path: Path, members: Iterable[tuple[str, bytes]]) -> int:
    """Write a tar whose bytes follow from its members alone; returns its size."""
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as tar:
        for name, content in members:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return path.stat().st_size


def to_gzip(path: Path, lines: Iterable[bytes]) -> int:
    """Write lines as a gzip file whose bytes follow from the lines alone; returns its size."""
    with path.open("wb") as file, gzip.GzipFile("", "wb", fileobj=file, mtime=0) as packed:
        for line in lines:
            packed.write(line + b"\n")
    return path.stat().st_size
