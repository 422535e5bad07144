"""A condition on the columns of an output, in SQL: `duration > 2 AND voice = 'low'`. DuckDB evaluates it.

Each part is evaluated on its own, so that many processes can do it. Whatever would make the answer depend on other rows
or on time is refused: subqueries, window functions, `random()`, `now()`. DuckDB may not touch files or the network.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import pyarrow as pa

from pipeline.errors import ConfigError, one_line

POSITION = "barkery_position"  # added to the table, to get the rows back in order


@dataclass(frozen=True)
class Condition:
    """An SQL condition. Audio can't be part of it: the column is left out."""

    sql: str

    def check(self, schema: pa.Schema) -> None:
        """Raise ConfigError if the condition can't be evaluated on rows of this schema."""
        if not self.sql.strip():
            raise ConfigError("the condition is empty")
        for node in nodes(self._syntax_tree()):
            if node.get("class") in ("SUBQUERY", "WINDOW", "PARAMETER"):
                raise ConfigError(f"{self._name}: must be a condition on the columns of one row, without subqueries")
            if node.get("type") == "FUNCTION" and is_unsteady(name := node["function_name"].lower(), node):
                raise ConfigError(f"{self._name}: {name}() gives another value each time, so it can't choose rows")
            if node.get("type") == "COLUMN_REF" and not self._is_column(node["column_names"], schema):
                known = ", ".join(name for name in schema.names if name != "audio")
                raise ConfigError(
                    f"{self._name}: there is no column {'.'.join(node['column_names'])}; known are {known}"
                )
        self.positions(schema.empty_table())

    def positions(self, table: pa.Table) -> np.ndarray:
        """(M,) int64, ascending: the numbers of the rows for which the condition is true.

        Raises:
            ConfigError: it can't be evaluated, such as text compared with a number.
        """
        import duckdb

        if "audio" in table.column_names:
            table = table.drop_columns(["audio"])
        table = table.append_column(POSITION, pa.array(range(len(table)), pa.int64()))
        connection = connect()
        try:
            connection.register("rows", table)
            query = f"SELECT {POSITION} FROM rows WHERE ({self.sql}\n) ORDER BY {POSITION}"
            found: np.ndarray = connection.execute(query).fetchnumpy()[POSITION]
        except duckdb.Error as error:
            raise ConfigError(f"{self._name}: {one_line(error)}") from error
        finally:
            connection.close()
        return np.asarray(found, dtype=np.int64)

    @property
    def _name(self) -> str:
        return f"condition {self.sql!r}"

    @staticmethod
    def _is_column(path: list[str], schema: pa.Schema) -> bool:
        names = {name.lower() for name in schema.names} - {"audio"}
        return path[0].lower() in names or (path[0].lower() == "rows" and len(path) > 1 and path[1].lower() in names)

    def _syntax_tree(self) -> dict[str, Any]:
        connection = connect()
        try:
            query = f"SELECT 1 FROM rows WHERE ({self.sql}\n)"
            (text,) = connection.execute("SELECT json_serialize_sql(?)", [query]).fetchone() or ("{}",)
        finally:
            connection.close()
        tree: dict[str, Any] = json.loads(text)
        if tree.get("error") or len(tree.get("statements", ())) != 1:
            raise ConfigError(f"{self._name}: not a valid SQL condition: {tree.get('error_message', 'syntax error')}")
        return tree


def connect() -> Any:
    """A DuckDB in memory that can't read or write anything outside."""
    try:
        import duckdb
    except ImportError as error:
        raise ConfigError("conditions need DuckDB: pip install 'barkery[export]'") from error
    return duckdb.connect(config={"enable_external_access": "false", "threads": 1, "lock_configuration": "true"})


def is_unsteady(name: str, node: dict[str, Any]) -> bool:
    """`age` of one argument is the time since then."""
    return name in unsteady_functions() or (name == "age" and len(node.get("arguments", ())) == 1)


@lru_cache
def unsteady_functions() -> frozenset[str]:
    """Names of DuckDB's functions that may return another value for the same row at another time."""
    connection = connect()
    query = "SELECT function_name FROM duckdb_functions() GROUP BY 1 HAVING NOT bool_or(stability = 'CONSISTENT')"
    names = {name for (name,) in connection.execute(query).fetchall()}
    steady = {name for (name,) in connection.execute(
        "SELECT function_name FROM duckdb_functions() WHERE function_type = 'aggregate' OR stability IS NULL"
    ).fetchall()}  # fmt: skip
    connection.close()
    return frozenset(names - steady)


def nodes(tree: Any) -> Iterator[dict[str, Any]]:
    """All objects in a JSON value."""
    if isinstance(tree, dict):
        yield tree
        tree = list(tree.values())
    if isinstance(tree, list):
        for each in tree:
            yield from nodes(each)
