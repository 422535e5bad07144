"""Reads a manifest in bounded memory and checks it: every error names the file, the column and the row."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any
from urllib.parse import urlsplit

import fsspec
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.csv
import pyarrow.json
import pyarrow.parquet as pq

from pipeline.errors import ConfigError, one_line, redact
from pipeline.manifest.columns import cast_known, check_columns, joined, refuse_what_python_lacks, unified
from pipeline.schema import ROW_COLUMNS
from pipeline.storage.retries import list_with_retries, open_with_retries

BATCH_ROWS, BATCH_BYTES = 4096, 32 * 2**20
BLOCK_BYTES = 2**20  # of CSV and JSONL. Larger where Arrow says so, up to:
LARGER = {
    "straddling": 2**30,  # a block must take the longest line
    "changed from null": 2**26,  # and the type of a column is what the first block makes of it
    "conversion error to null": 2**26,
}
SUFFIXES = (".parquet", ".csv", ".jsonl", ".ndjson", ".json")


@dataclass(frozen=True)
class Manifest:
    """The input table: files of one kind and one schema, in sorted order."""

    url: str = field(repr=False)  # may hold a password or a signature
    storage_options: dict[str, Any] = field(default_factory=dict, repr=False)
    limit: int | None = None

    @property
    def name(self) -> str:
        """For messages."""
        return f"manifest {redact(self.url)}"

    def files(self) -> tuple[fsspec.AbstractFileSystem, list[str]]:
        """The file system and the sorted paths behind the URL: one file, a folder's files, or a glob's."""
        try:
            fs, path = fsspec.core.url_to_fs(self.url, **self.storage_options)
        except Exception as error:  # each file system has its own way to refuse
            raise ConfigError(f"{self.name}: can't be opened: {one_line(error)}") from error
        paths = list_with_retries(self.name, lambda: self._paths(fs, path))
        visible = (p for p in paths if not place_of(p).rpartition("/")[2].startswith((".", "_")))
        found = sorted(p for p in visible if place_of(p).endswith(SUFFIXES))
        if not found:
            reason = "no such file" if not paths else f"no file with one of the endings {', '.join(SUFFIXES)}"
            raise ConfigError(f"{self.name}: {reason}")
        return fs, found

    def _paths(self, fs: fsspec.AbstractFileSystem, path: str) -> list[str]:
        """Raises FileNotFoundError; what is there is looked at once, so that a failure is not taken for an absence."""
        if any(c in place_of(path) for c in "*?["):
            return list(fs.glob(path))
        is_folder = fs.info(path)["type"] == "directory"
        if is_folder or (not place_of(path).endswith(SUFFIXES) and fs.isdir(path)):  # over HTTP, all is a file first
            return list(fs.find(path))
        return [path]

    def tables(self) -> Iterator[pa.Table]:
        """The rows as tables of at most 4096, in order and of one schema, with known columns in their plan types."""
        _, schema = self._found
        for path, _, table in self._checked():
            yield table if table.schema.equals(schema, check_metadata=True) else unified(path, table, schema)

    def check(self) -> int:
        """Read everything once; the number of rows.

        Raises:
            ConfigError: a missing column, a wrong type, a null or duplicate id, no rows; naming file, column, row.
        """
        return self._found[0]

    @cached_property
    def _found(self) -> tuple[int, pa.Schema]:
        """The number of rows, and the schema that takes all of them."""
        hashes, schema, differ = [], None, False
        for path, first_row, table in self._checked():
            hashes.append(hash_ids(table))
            refuse_what_python_lacks(path, first_row, table)
            if schema is not None and not table.schema.equals(schema):
                differ = True
            schema = table.schema if schema is None else joined(path, schema, table.schema)
        if schema is None:
            raise ConfigError(f"{self.name}: has no rows")
        if differ:  # whether the values allow it too
            for path, _, table in self._checked():
                unified(path, table, schema)
        every = np.concatenate(hashes)  # 8 bytes a row: the only thing that grows with the manifest
        ordered = np.sort(every)
        if (repeated := ordered[1:][ordered[1:] == ordered[:-1]]).size:
            self._refuse_duplicates(repeated)
        return len(every), schema

    def _refuse_duplicates(self, suspects: np.ndarray) -> None:
        """Equal hashes are looked at again as ids: only a real duplicate is refused."""
        seen: dict[str, str] = {}
        for path, first_row, table in self._checked():
            for i in np.flatnonzero(np.isin(hash_ids(table), suspects)):
                row_id, place = table["id"][int(i)].as_py(), f"{path} row {first_row + int(i)}"
                if row_id in seen:
                    raise ConfigError(f"{place}: column id: {row_id!r} was already used in {seen[row_id]}")
                seen[row_id] = place

    def _checked(self) -> Iterator[tuple[str, int, pa.Table]]:
        """(path, number of its first row in the file, table)."""
        fs, paths = self.files()
        names: list[str] | None = None
        left = self.limit
        for path in paths:
            row, shown = 0, redact(path)
            with readable(shown):
                for table in read_file(fs, path):
                    if names is None:
                        names = table.schema.names
                        check_columns(shown, table.schema)
                    elif table.schema.names != names:
                        different = sorted(set(table.schema.names) ^ set(names)) or ["their order"]
                        raise ConfigError(
                            f"{shown}: its columns differ from {redact(paths[0])}: {', '.join(different)}"
                        )
                    table = table if left is None else table[:left]
                    table.validate(full=True)  # no reader looks whether text is UTF-8
                    checked = cast_known(shown, row, table)
                    yield shown, row, checked
                    row += len(checked)
                    if left is not None and (left := left - len(checked)) == 0:
                        return


def place_of(path: str) -> str:
    """What names the file, in lower case: of a URL, the path without host and query (a signature)."""
    return (urlsplit(path).path if "://" in path else path).lower()


@contextmanager
def readable(path: str) -> Iterator[None]:
    """What pyarrow raises for a damaged file becomes one line with its name."""
    try:
        yield
    except (pa.ArrowException, OSError, ValueError) as error:
        raise ConfigError(f"{path}: can't be read: {one_line(error)}") from error


def read_file(fs: fsspec.AbstractFileSystem, path: str) -> Iterator[pa.Table]:
    """One file's rows in tables of at most 4096."""
    for batch in read_parquet(fs, path) if place_of(path).endswith(".parquet") else read_lines(fs, path):
        table = pa.Table.from_batches([batch])
        for start in range(0, len(table), BATCH_ROWS):
            yield table[start : start + BATCH_ROWS]


def read_parquet(fs: fsspec.AbstractFileSystem, path: str) -> Iterator[pa.RecordBatch]:
    with open_with_retries(fs, path) as file:
        # with pre_buffer, Arrow fetches the whole file ahead of its reader and holds it
        whole = pq.ParquetFile(file, pre_buffer=False)
        yield from whole.iter_batches(rows_at_a_time(whole.metadata))


def read_lines(fs: fsspec.AbstractFileSystem, path: str) -> Iterator[pa.RecordBatch]:
    """CSV or JSONL. Where a block is too small, once more with larger ones, from the first row not given."""
    given, size = 0, BLOCK_BYTES
    while True:
        seen = 0
        try:
            with open_with_retries(fs, path) as file:
                for batch in open_lines(file, path, size):
                    new = batch[max(0, given - seen) :]
                    seen += len(batch)
                    if len(new):
                        given += len(new)
                        yield new
            return
        except pa.ArrowInvalid as error:
            if size >= max((most for said, most in LARGER.items() if said in str(error)), default=0):
                raise
        size *= 4


def open_lines(file: Any, path: str, size: int) -> Any:
    """A reader of batches."""
    if place_of(path).endswith(".csv"):
        known = {name: kind for name, kind in ROW_COLUMNS.items() if pa.types.is_string(kind)}
        convert = pa.csv.ConvertOptions(column_types=known, strings_can_be_null=False)
        return pa.csv.open_csv(file, pa.csv.ReadOptions(block_size=size), convert_options=convert)
    return pa.json.open_json(file, pa.json.ReadOptions(block_size=size))


def rows_at_a_time(metadata: pq.FileMetaData) -> int:
    """4096, or fewer where rows are long."""
    size = sum(metadata.row_group(i).total_byte_size for i in range(metadata.num_row_groups))
    return max(1, min(BATCH_ROWS, BATCH_BYTES * metadata.num_rows // max(1, size)))


def hash_ids(table: pa.Table) -> np.ndarray:
    """(rows,) uint64"""
    return pd.util.hash_array(table["id"].to_numpy().astype(object), categorize=False)
