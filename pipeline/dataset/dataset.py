"""An output in Python: `pipeline.read(OUTPUT)`. Reads committed parts alone, from local or cloud storage."""

import io
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import cached_property
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import soundfile

from pipeline.dataset.card import hours
from pipeline.dataset.condition import Condition
from pipeline.dataset.player import clip_html
from pipeline.errors import ConfigError, redact
from pipeline.shards.plan import plans_of
from pipeline.shards.reader import RowCounts, commits, count_rows, query_part, read_columns, read_part
from pipeline.shards.writer import Commit
from pipeline.spec import SAMPLE_RATE
from pipeline.storage.store import Store

PARTS_AHEAD = 4  # read at the same time
SHOWN_CLIPS = 5  # in a notebook


@dataclass(frozen=True, eq=False)
class Clip:
    """One row with its sound, which is decoded when it is asked for. Shows a player in Jupyter."""

    row: dict[str, Any] = field(repr=False)  # all columns but the audio
    audio: bytes = field(repr=False)  # of the sound file

    @property
    def id(self) -> str:
        return str(self.row["id"])

    @property
    def text(self) -> str:
        return str(self.row["text"])

    @property
    def sampling_rate(self) -> int:
        return int(self.row["sampling_rate"])

    @property
    def duration_s(self) -> float:
        return float(self.row["num_samples"] / self.row["sampling_rate"])

    @cached_property
    def samples(self) -> np.ndarray:
        """(N,) float32 samples in -1..1 at `sampling_rate`."""
        samples: np.ndarray = soundfile.read(io.BytesIO(self.audio), dtype="float32")[0]
        return samples

    def save(self, path: str | Path) -> None:
        """Write the sound file as it is in the output."""
        Path(path).write_bytes(self.audio)

    def __repr__(self) -> str:
        return f"Clip({self.id!r}, {self.duration_s:.2f} s, {self.text[:60]!r})"

    def _repr_html_(self) -> str:
        facts = {key: self.row.get(key) for key in ("id", "voice", "seed", "stop")}
        return clip_html(self.audio, self.text, facts | {"duration": f"{self.duration_s:.2f} s"})


@dataclass(frozen=True, eq=False)
class Dataset:
    """The committed rows of an output, or those that meet conditions. Make it with `pipeline.read`."""

    store: Store
    counts: RowCounts  # of the whole output
    parts: tuple[Commit, ...] = field(repr=False)
    conditions: tuple[Condition, ...] = ()

    def filter(self, condition: str) -> "Dataset":
        """The rows that meet an SQL condition on their columns, such as `duration > 2 AND voice = 'low'`.

        Raises:
            ConfigError: the condition is not valid for these columns.
        """
        added = Condition(condition)
        added.check(self.schema)
        return replace(self, conditions=(*self.conditions, added))

    @cached_property
    def schema(self) -> pa.Schema:
        """The columns, with their types."""
        if not self.parts:
            return pa.schema([])
        ends = {self.parts[0].shard: self.parts[0], self.parts[-1].shard: self.parts[-1]}
        found = [query_part(self.store, part, lambda file: file.schema_arrow) for part in ends.values()]
        return pa.unify_schemas([schema.remove_metadata() for schema in found])

    def to_arrow(self, columns: Sequence[str] | None = None) -> pa.Table:
        """All rows in order as one table. Name columns to leave out the others, of which `audio` is by far the largest.

        Raises:
            ConfigError: an unknown column, or a damaged part.
        """
        names = list(self.schema.names if columns is None else columns)
        if unknown := [name for name in names if name not in self.schema.names]:
            raise ConfigError(f"there is no column {unknown[0]}; known are {', '.join(self.schema.names)}")
        tables = list(self._tables(names))
        if not tables:
            return pa.schema([self.schema.field(name) for name in names]).empty_table()
        return pa.concat_tables(tables, promote_options="permissive").select(names)

    def to_pandas(self, columns: Sequence[str] | None = None) -> pd.DataFrame:
        """All rows in order, without the audio unless it is named."""
        names = [name for name in self.schema.names if name != "audio"] if columns is None else columns
        frame: pd.DataFrame = self.to_arrow(names).to_pandas()
        return frame

    def clips(self) -> Iterator[Clip]:
        """The clips in order, with a few parts in memory at a time.

        Raises:
            ConfigError: a part is missing, or is not what was committed.
        """
        for table in self._tables(None):
            for row in table.to_pylist():
                yield Clip(row, row.pop("audio")["bytes"])

    def clip(self, row_id: str) -> Clip:
        """One clip by its id; raises KeyError if there is none."""
        for part in self.parts:
            ids = query_part(self.store, part, lambda file: read_columns(file, ["id"]))["id"]
            if (position := ids.index(row_id).as_py()) >= 0:
                (row,) = read_part(self.store, part).slice(position, 1).to_pylist()
                return Clip(row, row.pop("audio")["bytes"])
        raise KeyError(row_id)

    def failures(self) -> pa.Table:
        """The rows that did not become audio, of all generations: a row that a later one spoke is in both."""
        failed = [commit for commit in commits(self.store) if commit.failures]
        tables = [query_part(self.store, part, read_columns, "failures") for part in failed]
        return pa.concat_tables(tables, promote_options="permissive") if tables else pa.table({})

    def _tables(self, columns: Sequence[str] | None) -> Iterator[pa.Table]:
        """The rows of each part that meet the conditions; None reads all columns and checks the part's hash."""
        with ThreadPoolExecutor(PARTS_AHEAD) as pool:
            for start in range(0, len(self.parts), PARTS_AHEAD):  # in batches: `map` would read everything ahead
                yield from pool.map(self._reader(columns), self.parts[start : start + PARTS_AHEAD])

    def _reader(self, columns: Sequence[str] | None) -> Callable[[Commit], pa.Table]:
        def read(part: Commit) -> pa.Table:
            if columns is None or "audio" in columns:
                table = read_part(self.store, part)
            else:
                wanted = None if self.conditions else list(columns)
                table = query_part(self.store, part, lambda file: read_columns(file, wanted))
            for condition in self.conditions:
                table = table.take(pa.array(condition.positions(table)))
            kept = table.column_names if columns is None else [name for name in columns if name in table.column_names]
            return table.select(kept).replace_schema_metadata(None)

        return read

    def __iter__(self) -> Iterator[Clip]:
        return self.clips()

    def __len__(self) -> int:
        if not self.conditions:
            return sum(part.written for part in self.parts)
        return sum(len(table) for table in self._tables(["id"]))

    def __repr__(self) -> str:
        return f"Dataset({redact(self.store.url)!r}, {self._summary})"

    @property
    def _summary(self) -> str:
        if self.conditions:
            return " and ".join(f"({condition.sql})" for condition in self.conditions)
        seconds = sum(part.num_samples for part in self.parts) / SAMPLE_RATE
        return f"{len(self):,} clips, {hours(seconds)}; {self.counts}"

    def _repr_html_(self) -> str:
        """The numbers, and players for the first clips."""
        clips = self.clips()
        shown = [clip._repr_html_() for _, clip in zip(range(SHOWN_CLIPS), clips, strict=False)]
        clips.close()  # type: ignore[attr-defined]  # a generator: stops reading ahead
        return f"<p><b>{escape(repr(self))}</b></p>{''.join(shown)}"


def read(output: str | Path, storage_options: dict[str, Any] | None = None) -> Dataset:
    """The committed rows of an output folder; a run may still be going on.

    Args:
        output: a path, or any fsspec URL such as `s3://bucket/folder`.
        storage_options: for fsspec.

    Raises:
        ConfigError: the folder has no run, or its plan or a commit is damaged.
    """
    store = Store(str(output), storage_options or {})
    plans, committed = plans_of(store), commits(store)
    return Dataset(store, count_rows(plans, committed), tuple(part for part in committed if part.data))
