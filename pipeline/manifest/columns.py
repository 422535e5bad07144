"""What a manifest's columns may be, and how they become those of the plan."""

import pyarrow as pa

from pipeline.errors import ConfigError, one_line
from pipeline.schema import OUTPUT_ONLY, ROW_COLUMNS, SAMPLING_COLUMNS


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


def joined(path: str, one: pa.Schema, other: pa.Schema) -> pa.Schema:
    """The schema that takes both, such as float64 for whole numbers and fractions."""
    fields = []
    for a, b in zip(one, other, strict=True):
        try:
            fields.append(pa.unify_schemas([pa.schema([a]), pa.schema([b])], promote_options="permissive").field(0))
        except (pa.ArrowTypeError, pa.ArrowInvalid) as error:
            raise ConfigError(f"{path}: column {a.name} is {b.type}, but {a.type} before; give it one type") from error
    return pa.schema(fields, metadata=one.metadata)


def unified(path: str, table: pa.Table, schema: pa.Schema) -> pa.Table:
    """The same values in the types of the whole manifest."""
    columns = []
    for wanted, column in zip(schema, table.columns, strict=True):
        try:
            columns.append(column.cast(wanted.type))
        except pa.ArrowException as error:
            reason = f"column {wanted.name} is {column.type}, elsewhere it needs {wanted.type}: {one_line(error)}"
            raise ConfigError(f"{path}: {reason}; give it one type") from error
    return pa.Table.from_arrays(columns, schema=schema)


def may_be_too_much(kind: pa.DataType) -> bool:
    """Whether Arrow has values of that type which Python has not."""
    if isinstance(kind, pa.BaseExtensionType):
        kind = kind.storage_type
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    inner = [kind.field(i) for i in range(kind.num_fields)]
    twice = len({field.name for field in inner}) < len(inner)
    return pa.types.is_temporal(kind) or twice or any(may_be_too_much(field.type) for field in inner)


def refuse_what_python_lacks(path: str, first_row: int, table: pa.Table) -> None:
    """A year 20000, an unknown time zone, two fields of one name: an actor would fail at them, again and again."""
    for name, column in zip(table.schema.names, table.columns, strict=True):
        if not may_be_too_much(column.type):
            continue
        try:
            column.to_pylist()
        except Exception:  # which ones is up to Python's types
            for row, value in enumerate(column, first_row):
                try:
                    value.as_py()
                except Exception as error:
                    place = f"{path} row {row}: column {name}"
                    raise ConfigError(f"{place}: Python has no such value: {one_line(error)}") from error
            raise
