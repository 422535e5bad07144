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
from pipeline.manifest.columns import cast_known, cast_to, check_columns, check_python_values, common_schema
from pipeline.schema import ROW_COLUMNS
from pipeline.storage.retries import list_with_retries, open_with_retries

BATCH_ROWS, BATCH_BYTES = 4096, 32 * 2**20
BLOCK_BYTES = 2**20  # Arrow's reading unit for CSV and JSONL; after one of these errors a larger one is tried, up to:
MAX_BLOCK_BYTES = {
    "straddling": 2**30,  # a block must fit the longest line
    "changed from null": 2**26,  # the first block decides a column's type
    "conversion error to null": 2**26,
}
SUFFIXES = (".parquet", ".csv", ".jsonl", ".ndjson", ".json")


@dataclass(frozen=True)
class Manifest:
    """The input table: one or more files with the same columns, in sorted order."""

    url: str = field(repr=False)  # may hold a password or a signature
    storage_options: dict[str, Any] = field(default_factory=dict, repr=False)
    limit: int | None = None

    @property
    def name(self) -> str:
        """The manifest's URL for messages, without secrets."""
        return f"manifest {redact(self.url)}"

    def files(self) -> tuple[fsspec.AbstractFileSystem, list[str]]:
        """The file system and the sorted paths behind the URL: one file, a folder's files, or a glob's."""
        try:
            fs, path = fsspec.core.url_to_fs(self.url, **self.storage_options)
        except Exception as error:  # each file system raises errors of its own
            raise ConfigError(f"{self.name}: can't be opened: {one_line(error)}") from error
        paths = list_with_retries(self.name, lambda: self._paths(fs, path))
        visible = (p for p in paths if not path_in_url(p).rpartition("/")[2].startswith((".", "_")))
        found = sorted(p for p in visible if path_in_url(p).endswith(SUFFIXES))
        if not found:
            reason = "no such file" if not paths else f"no file with one of the endings {', '.join(SUFFIXES)}"
            raise ConfigError(f"{self.name}: {reason}")
        return fs, found

    def _paths(self, fs: fsspec.AbstractFileSystem, path: str) -> list[str]:
        """The paths that match the URL; raises FileNotFoundError.

        Only one call asks whether the path exists, so that a failing server is not taken for a missing file.
        """
        if any(c in path_in_url(path) for c in "*?["):
            return list(fs.glob(path))
        is_folder = fs.info(path)["type"] == "directory"
        if is_folder or (
            not path_in_url(path).endswith(SUFFIXES) and fs.isdir(path)
        ):  # over HTTP, `info` calls everything a file
            return list(fs.find(path))
        return [path]

    def tables(self) -> Iterator[pa.Table]:
        """The rows in order, as tables of at most 4096 with one schema and known columns in their plan types."""
        _, schema = self._scan
        for path, _, table in self._checked():
            yield table if table.schema.equals(schema, check_metadata=True) else cast_to(path, table, schema)

    def check(self) -> int:
        """Read and check everything; return the number of rows.

        Raises:
            ConfigError: a missing column, a wrong type, a null or duplicate id, no rows; naming file, column, row.
        """
        return self._scan[0]

    @cached_property
    def _scan(self) -> tuple[int, pa.Schema]:
        """The number of rows, and the schema that fits all of them."""
        hashes, schema, schemas_differ = [], None, False
        for path, first_row, table in self._checked():
            hashes.append(hash_ids(table))
            check_python_values(path, first_row, table)
            if schema is not None and not table.schema.equals(schema):
                schemas_differ = True
            schema = table.schema if schema is None else common_schema(path, schema, table.schema)
        if schema is None:
            raise ConfigError(f"{self.name}: has no rows")
        if schemas_differ:  # check that all values can be cast
            for path, _, table in self._checked():
                cast_to(path, table, schema)
        all_hashes = np.concatenate(hashes)  # 8 bytes per row: the only memory that grows with the manifest
        ordered = np.sort(all_hashes)
        if (repeated := ordered[1:][ordered[1:] == ordered[:-1]]).size:
            self._refuse_duplicates(repeated)
        return len(all_hashes), schema

    def _refuse_duplicates(self, suspects: np.ndarray) -> None:
        """Compare the ids of equal hashes, and raise ConfigError if two ids are equal."""
        seen: dict[str, str] = {}
        for path, first_row, table in self._checked():
            for i in np.flatnonzero(np.isin(hash_ids(table), suspects)):
                row_id, location = table["id"][int(i)].as_py(), f"{path} row {first_row + int(i)}"
                if row_id in seen:
                    raise ConfigError(f"{location}: column id: {row_id!r} was already used in {seen[row_id]}")
                seen[row_id] = location

    def _checked(self) -> Iterator[tuple[str, int, pa.Table]]:
        """Checked tables as (path for messages, number of the table's first row in the file, table)."""
        fs, paths = self.files()
        names: list[str] | None = None
        left = self.limit
        for path in paths:
            row, name = 0, redact(path)
            with read_errors(name):
                for table in read_file(fs, path):
                    if names is None:
                        names = table.schema.names
                        check_columns(name, table.schema)
                    elif table.schema.names != names:
                        different = sorted(set(table.schema.names) ^ set(names)) or ["their order"]
                        raise ConfigError(f"{name}: its columns differ from {redact(paths[0])}: {', '.join(different)}")
                    table = table if left is None else table[:left]
                    table.validate(full=True)  # the readers do not check that text is UTF-8
                    checked = cast_known(name, row, table)
                    yield name, row, checked
                    row += len(checked)
                    if left is not None and (left := left - len(checked)) == 0:
                        return


def path_in_url(path: str) -> str:
    """A path in lower case; of a URL, its path without host and query, which may be a signature."""
    return (urlsplit(path).path if "://" in path else path).lower()


@contextmanager
def read_errors(path: str) -> Iterator[None]:
    """Turn what pyarrow raises for a damaged file into a ConfigError of one line that names the file."""
    try:
        yield
    except (pa.ArrowException, OSError, ValueError) as error:
        raise ConfigError(f"{path}: can't be read: {one_line(error)}") from error


def read_file(fs: fsspec.AbstractFileSystem, path: str) -> Iterator[pa.Table]:
    """One file's rows as tables of at most 4096."""
    for batch in read_parquet(fs, path) if path_in_url(path).endswith(".parquet") else read_lines(fs, path):
        table = pa.Table.from_batches([batch])
        for start in range(0, len(table), BATCH_ROWS):
            yield table[start : start + BATCH_ROWS]


def read_parquet(fs: fsspec.AbstractFileSystem, path: str) -> Iterator[pa.RecordBatch]:
    with open_with_retries(fs, path) as file:
        # with pre_buffer, Arrow would read the whole file into memory ahead of its reader
        parquet = pq.ParquetFile(file, pre_buffer=False)
        yield from parquet.iter_batches(batch_rows(parquet.metadata))


def read_lines(fs: fsspec.AbstractFileSystem, path: str) -> Iterator[pa.RecordBatch]:
    """The batches of a CSV or JSONL file.

    If Arrow's block is too small, the file is read again with larger blocks, and rows that were yielded are skipped.
    """
    yielded, size = 0, BLOCK_BYTES
    while True:
        seen = 0
        try:
            with open_with_retries(fs, path) as file:
                for batch in open_lines(file, path, size):
                    new = batch[max(0, yielded - seen) :]
                    seen += len(batch)
                    if len(new):
                        yielded += len(new)
                        yield new
            return
        except pa.ArrowInvalid as error:
            if size >= max((limit for text, limit in MAX_BLOCK_BYTES.items() if text in str(error)), default=0):
                raise
        size *= 4


def open_lines(file: Any, path: str, size: int) -> Any:
    """Arrow's batch reader for CSV or JSONL with blocks of `size` bytes."""
    if path_in_url(path).endswith(".csv"):
        text_columns = {name: kind for name, kind in ROW_COLUMNS.items() if pa.types.is_string(kind)}
        convert = pa.csv.ConvertOptions(column_types=text_columns, strings_can_be_null=False)
        return pa.csv.open_csv(file, pa.csv.ReadOptions(block_size=size), convert_options=convert)
    return pa.json.open_json(file, pa.json.ReadOptions(block_size=size))


def batch_rows(metadata: pq.FileMetaData) -> int:
    """Rows per batch: 4096, or fewer if rows are long, so that a batch has about `BATCH_BYTES`."""
    size = sum(metadata.row_group(i).total_byte_size for i in range(metadata.num_row_groups))
    return max(1, min(BATCH_ROWS, BATCH_BYTES * metadata.num_rows // max(1, size)))


def hash_ids(table: pa.Table) -> np.ndarray:
    """(rows,) uint64 hashes of the ids."""
    return pd.util.hash_array(table["id"].to_numpy().astype(object), categorize=False)
