"""Columns of a part, among them the measures, which are fields of its column `quality`."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc


def find_column(table: pa.Table, name: str) -> pa.ChunkedArray | None:
    """A column, or a field of the column `quality`; None if the table has neither."""
    if name in table.column_names:
        return table[name]
    if "quality" in table.column_names and table.schema.field("quality").type.get_field_index(name) >= 0:
        return pc.struct_field(table["quality"], name)
    return None


def find_numbers(table: pa.Table, name: str) -> np.ndarray | None:
    """(N,) float64 values of such a column, NaN where a row has none; None if the table does not have the column."""
    column = find_column(table, name)
    if column is None:
        return None
    return np.asarray(column.cast(pa.float64()).to_numpy(zero_copy_only=False), dtype=np.float64)
