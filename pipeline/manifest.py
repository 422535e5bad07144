"""Reads a manifest in bounded memory and checks it: every error names the file, the column and the row."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import fsspec
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.csv
import pyarrow.json
import pyarrow.parquet as pq

from pipeline.errors import ConfigError, one_line
from pipeline.schema import OUTPUT_ONLY, ROW_COLUMNS, SAMPLING_COLUMNS

BATCH_ROWS, BATCH_BYTES = 4096, 32 * 2**20
SUFFIXES = (".parquet", ".csv", ".jsonl", ".ndjson", ".json")


@dataclass(frozen=True)
class Manifest:
    """The input table: files of one kind and one schema, in sorted order."""

    url: str
    storage_options: dict[str, Any] = field(default_factory=dict, repr=False)
    limit: int | None = None

    def files(self) -> tuple[fsspec.AbstractFileSystem, list[str]]:
        """The file system and the sorted paths behind the URL: one file, a folder's files, or a glob's."""
        try:
            fs, path = fsspec.core.url_to_fs(self.url, **self.storage_options)
            if any(c in path for c in "*?["):
                paths = fs.glob(path)
            elif fs.isdir(path):
                paths = fs.find(path)
            else:
                paths = [path] if fs.exists(path) else []
        except (ValueError, ImportError, OSError) as error:
            raise ConfigError(f"manifest {self.url}: can't be opened: {error}") from error
        visible = (p for p in paths if not any(part.startswith((".", "_")) for part in p.split("/")[-1:]))
        found = sorted(p for p in visible if p.lower().endswith(SUFFIXES))
        if not found:
            reason = "no such file" if not paths else f"no file with one of the endings {', '.join(SUFFIXES)}"
            raise ConfigError(f"manifest {self.url}: {reason}")
        return fs, found

    def tables(self) -> Iterator[pa.Table]:
        """The rows as tables of at most 4096, in order, with known columns in their plan types."""
        for _, _, table in self._checked():
            yield table

    def check(self) -> int:
        """Read everything once; the number of rows.

        Raises:
            ConfigError: a missing column, a wrong type, a null or duplicate id, no rows; naming file, column, row.
        """
        hashes = []
        for _, _, table in self._checked():
            hashes.append(hash_ids(table))
        if not hashes:
            raise ConfigError(f"manifest {self.url}: has no rows")
        every = np.concatenate(hashes)  # 8 bytes a row: the only thing that grows with the manifest
        ordered = np.sort(every)
        if (repeated := ordered[1:][ordered[1:] == ordered[:-1]]).size:
            self._refuse_duplicates(repeated)
        return len(every)

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
        schema: pa.Schema | None = None
        left = self.limit
        for path in paths:
            row = 0
            with readable(path):
                for table in read_file(fs, path):
                    if schema is None:
                        schema = table.schema
                        check_columns(path, schema)
                    elif table.schema.names != schema.names:
                        different = sorted(set(table.schema.names) ^ set(schema.names))
                        raise ConfigError(f"{path}: its columns differ from {paths[0]}: {', '.join(different)}")
                    table = table if left is None else table[:left]
                    table.validate(full=True)  # no reader looks whether text is UTF-8
                    checked = cast_known(path, row, table)
                    yield path, row, checked
                    row += len(checked)
                    if left is not None and (left := left - len(checked)) == 0:
                        return


@contextmanager
def readable(path: str) -> Iterator[None]:
    """What pyarrow raises for a damaged file becomes one line with its name."""
    try:
        yield
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: can't be read: {one_line(error)}") from error


def read_file(fs: fsspec.AbstractFileSystem, path: str) -> Iterator[pa.Table]:
    """One file's rows in tables of at most 4096."""
    with fs.open(path, "rb") as file:
        if path.lower().endswith(".parquet"):
            # with pre_buffer, Arrow fetches the whole file ahead of its reader and holds it
            whole = pq.ParquetFile(file, pre_buffer=False)
            batches = whole.iter_batches(rows_at_a_time(whole.metadata))
        elif path.lower().endswith(".csv"):
            known = {name: kind for name, kind in ROW_COLUMNS.items() if pa.types.is_string(kind)}
            convert = pa.csv.ConvertOptions(column_types=known, strings_can_be_null=False)
            batches = pa.csv.open_csv(file, convert_options=convert)
        else:
            batches = pa.json.open_json(file)
        for batch in batches:
            table = pa.Table.from_batches([batch])
            for start in range(0, len(table), BATCH_ROWS):
                yield table[start : start + BATCH_ROWS]


def rows_at_a_time(metadata: pq.FileMetaData) -> int:
    """4096, or fewer where rows are long."""
    size = sum(metadata.row_group(i).total_byte_size for i in range(metadata.num_row_groups))
    return max(1, min(BATCH_ROWS, BATCH_BYTES * metadata.num_rows // max(1, size)))


def check_columns(path: str, schema: pa.Schema) -> None:
    for name in ("id", "text"):
        if name not in schema.names:
            raise ConfigError(f"{path}: column {name} is missing; it has {', '.join(schema.names) or 'none'}")
    if len(set(schema.names)) < len(schema.names):
        raise ConfigError(f"{path}: a column name occurs twice")
    if taken := sorted(OUTPUT_ONLY & set(schema.names)):
        raise ConfigError(f"{path}: column {taken[0]} is one that the output makes; rename it in the manifest")


def cast_known(path: str, first_row: int, table: pa.Table) -> pa.Table:
    """Columns with a meaning in their plan types; ids may be whole numbers, everything else must be what it says."""
    for i, name in enumerate(table.schema.names):
        wanted = (ROW_COLUMNS | SAMPLING_COLUMNS).get(name)
        if wanted is None:
            continue
        kind = table.schema.types[i]
        if not compatible(name, kind, wanted):
            raise ConfigError(f"{path}: column {name} must be {wanted}, is {kind}")
        table = table.set_column(i, name, table[name].cast(wanted))
    ids = table["id"]
    if ids.null_count:
        row = first_row + ids.is_null().to_numpy().argmax()
        raise ConfigError(f"{path} row {row}: column id is null")
    return table


def compatible(name: str, kind: pa.DataType, wanted: pa.DataType) -> bool:
    """Whether a column's type carries what is wanted without guessing; an all-null column carries anything."""
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    text = pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)
    whole = pa.types.is_integer(kind)
    if pa.types.is_null(kind):
        return name != "id"
    if pa.types.is_string(wanted):
        return text or (whole and name == "id")
    if pa.types.is_floating(wanted):
        return whole or pa.types.is_floating(kind)
    return whole if pa.types.is_integer(wanted) else pa.types.is_boolean(kind)


def hash_ids(table: pa.Table) -> np.ndarray:
    """(rows,) uint64"""
    return pd.util.hash_array(table["id"].to_numpy().astype(object), categorize=False)
