"""A look at a manifest of any size: its number of rows, and some of them, without reading it all."""

from dataclasses import dataclass, replace
from itertools import islice

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.errors import redact
from pipeline.manifest.columns import cast_known, check_columns
from pipeline.manifest.manifest import Manifest, path_in_url, read_errors, read_file
from pipeline.storage.retries import open_with_retries

READ_WHOLE = 20_000  # rows; a larger manifest is sampled
GROUPS = 32  # row groups of Parquet that are read of a large manifest
ROWS_OF_GROUP = 640


@dataclass(frozen=True)
class ManifestSample:
    """Some rows of a manifest, which stand for all of them."""

    num_rows: int  # of the manifest: exact for Parquet, projected from the files' sizes for large CSV and JSONL
    rows: pa.Table
    is_exact: bool  # `num_rows`

    @property
    def is_whole(self) -> bool:
        return len(self.rows) == self.num_rows and self.is_exact


def sample_manifest(manifest: Manifest) -> ManifestSample:
    """Rows of a manifest: all of a small one, evenly spread groups of a large Parquet one, the first of a large text.

    Raises:
        ConfigError: it can't be read, or a column is missing or has another type. Only what is read is checked.
    """
    first = pa.concat_tables(islice_rows(manifest, READ_WHOLE + 1), promote_options="permissive")
    if len(first) <= READ_WHOLE:
        manifest.check()
        return ManifestSample(len(first), first, True)
    fs, paths = manifest.files()
    if all(path_in_url(path).endswith(".parquet") for path in paths):
        sample = sample_parquet(manifest)
    else:
        sizes = [fs.size(path) or 0 for path in paths]
        read = first.nbytes  # close to the size of the text it came from
        sample = ManifestSample(max(len(first), round(len(first) * sum(sizes) / max(1, read))), first, False)
    limit = manifest.limit
    return sample if limit is None or limit >= sample.num_rows else replace(sample, num_rows=limit)


def islice_rows(manifest: Manifest, count: int) -> list[pa.Table]:
    """The first rows, checked as far as one row can be."""
    tables, left = [], count
    fs, paths = manifest.files()
    for path in paths:
        name = redact(path)
        with read_errors(name):
            for table in read_file(fs, path):
                check_columns(name, table.schema)
                tables.append(cast_known(name, 0, table[: min(left, manifest.limit or left)]))
                left -= len(table)
                if left <= 0 or (manifest.limit and sum(map(len, tables)) >= manifest.limit):
                    return tables
    return tables


def sample_parquet(manifest: Manifest) -> ManifestSample:
    """The exact number of rows from the files' footers, and the first rows of evenly spread row groups."""
    fs, paths = manifest.files()
    groups: list[tuple[str, int]] = []
    num_rows = 0
    for path in paths:
        with read_errors(redact(path)), open_with_retries(fs, path) as file:
            metadata = pq.ParquetFile(file, pre_buffer=False).metadata
            num_rows += metadata.num_rows
            groups += [(path, group) for group in range(metadata.num_row_groups)]
    chosen = [groups[i] for i in np.unique(np.linspace(0, len(groups) - 1, GROUPS).astype(int))]
    per_group = READ_WHOLE // len(chosen)
    tables = []
    for path, group in chosen:
        name = redact(path)
        with read_errors(name), open_with_retries(fs, path) as file:
            parquet = pq.ParquetFile(file, pre_buffer=False)
            batches = parquet.iter_batches(max(1, min(per_group, ROWS_OF_GROUP)), row_groups=[group])
            found = pa.Table.from_batches(list(islice(batches, max(1, per_group // ROWS_OF_GROUP))))
            tables.append(cast_known(name, 0, found))
    return ManifestSample(num_rows, pa.concat_tables(tables, promote_options="permissive"), True)
