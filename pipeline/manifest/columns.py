"""Checks a manifest's columns and converts them to the plan's types."""

import pyarrow as pa

from pipeline.errors import ConfigError, one_line
from pipeline.schema import OUTPUT_ONLY, ROW_COLUMNS, SAMPLING_COLUMNS


def check_columns(path: str, schema: pa.Schema) -> None:
    """Raise ConfigError for missing, repeated or reserved column names."""
    for name in ("id", "text"):
        if name not in schema.names:
            raise ConfigError(f"{path}: column {name} is missing; it has {', '.join(schema.names) or 'none'}")
    if len(set(schema.names)) < len(schema.names):
        raise ConfigError(f"{path}: a column name occurs twice")
    if reserved := sorted(OUTPUT_ONLY & set(schema.names)):
        raise ConfigError(f"{path}: column {reserved[0]} is reserved for the output; rename it in the manifest")


def cast_known(path: str, first_row: int, table: pa.Table) -> pa.Table:
    """Cast the columns that Barkery knows to their types in the plan; others stay as they are.

    Raises:
        ConfigError: a column of another type (ids may also be whole numbers), or a null id.
    """
    for i, name in enumerate(table.schema.names):
        required = (ROW_COLUMNS | SAMPLING_COLUMNS).get(name)
        if required is None:
            continue
        found = table.schema.types[i]
        if not compatible(name, found, required):
            raise ConfigError(f"{path}: column {name} must be {required}, is {found}")
        table = table.set_column(i, name, table[name].cast(required))
    ids = table["id"]
    if ids.null_count:
        row = first_row + ids.is_null().to_numpy().argmax()
        raise ConfigError(f"{path} row {row}: column id is null")
    return table


def compatible(name: str, found: pa.DataType, required: pa.DataType) -> bool:
    """True if values of type `found` can be cast to `required` unambiguously; an all-null column always can."""
    if pa.types.is_dictionary(found):
        found = found.value_type
    is_text = pa.types.is_string(found) or pa.types.is_large_string(found) or pa.types.is_string_view(found)
    is_whole = pa.types.is_integer(found)
    if pa.types.is_null(found):
        return name != "id"
    if pa.types.is_string(required):
        return is_text or (is_whole and name == "id")
    if pa.types.is_floating(required):
        return is_whole or pa.types.is_floating(found)
    return is_whole if pa.types.is_integer(required) else pa.types.is_boolean(found)


def common_schema(path: str, one: pa.Schema, other: pa.Schema) -> pa.Schema:
    """The schema that fits the values of both, such as float64 for whole numbers and fractions."""
    fields = []
    for a, b in zip(one, other, strict=True):
        try:
            fields.append(pa.unify_schemas([pa.schema([a]), pa.schema([b])], promote_options="permissive").field(0))
        except (pa.ArrowTypeError, pa.ArrowInvalid) as error:
            raise ConfigError(f"{path}: column {a.name} is {b.type}, but {a.type} before; give it one type") from error
    return pa.schema(fields, metadata=one.metadata)


def cast_to(path: str, table: pa.Table, schema: pa.Schema) -> pa.Table:
    """The same values in the types of the manifest's common schema."""
    columns = []
    for common, column in zip(schema, table.columns, strict=True):
        try:
            columns.append(column.cast(common.type))
        except pa.ArrowException as error:
            reason = f"column {common.name} is {column.type}, elsewhere it needs {common.type}: {one_line(error)}"
            raise ConfigError(f"{path}: {reason}; give it one type") from error
    return pa.Table.from_arrays(columns, schema=schema)


def may_lack_python_value(kind: pa.DataType) -> bool:
    """True if Arrow has values of this type that can't become Python objects."""
    if isinstance(kind, pa.BaseExtensionType):
        kind = kind.storage_type
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    inner = [kind.field(i) for i in range(kind.num_fields)]
    repeated_name = len({field.name for field in inner}) < len(inner)
    return pa.types.is_temporal(kind) or repeated_name or any(may_lack_python_value(field.type) for field in inner)


def check_python_values(path: str, first_row: int, table: pa.Table) -> None:
    """Raise ConfigError for values that can't become Python objects, at which an actor would fail in every attempt.

    Examples are the year 20000, an unknown time zone, and two fields of one name.
    """
    for name, column in zip(table.schema.names, table.columns, strict=True):
        if not may_lack_python_value(column.type):
            continue
        try:
            column.to_pylist()
        except Exception:  # the exception depends on the Python type
            for row, value in enumerate(column, first_row):
                try:
                    value.as_py()
                except Exception as error:
                    place = f"{path} row {row}: column {name}"
                    raise ConfigError(f"{place}: Python can't represent this value: {one_line(error)}") from error
            raise
