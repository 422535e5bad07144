"""The plan: the manifest's rows cut into shards, once, kept with the output.

    _plan/plan-00000.parquet   shards 0 to 999: row group k is shard k
    _plan/run.json             what decides the output; written last, so it makes the plan count

A resumed run finds the same shards whatever became of the manifest's files, and a changed manifest is noticed row
by row.
"""

import io
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.errors import ConfigError
from pipeline.shards.storage import Store

SHARDS_PER_FILE = 1000
RUN = "_plan/run.json"


@dataclass(frozen=True)
class Plan:
    """What a run is: its identity, and how many rows and shards."""

    identity: dict[str, Any]
    num_rows: int
    rows_per_shard: int

    @property
    def num_shards(self) -> int:
        return -(-self.num_rows // self.rows_per_shard)

    def rows_in(self, shard: int) -> int:
        return min(self.rows_per_shard, self.num_rows - shard * self.rows_per_shard)


def plan_file(shard: int) -> str:
    return f"_plan/plan-{shard // SHARDS_PER_FILE:05d}.parquet"


def part_name(shard: int) -> str:
    return f"part-{shard:05d}"


def open_plan(store: Store) -> Plan | None:
    """The plan that lies in the output, if any."""
    try:
        held = json.loads(store.get(RUN))
        return Plan(held["identity"], held["num_rows"], held["rows_per_shard"])
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"{store.path(RUN)}: damaged: {error}; use a new output folder") from error


def write_plan(store: Store, plan: Plan, tables: Iterator[pa.Table], about: dict[str, Any]) -> None:
    """Write all shards, then run.json. A plan left half-written has no run.json and is written again."""
    buffer, writer, shard = io.BytesIO(), None, -1
    for shard, table in enumerate(cut(tables, plan.rows_per_shard)):
        if writer is None:
            buffer = io.BytesIO()
            writer = pq.ParquetWriter(buffer, table.schema, compression="zstd")
        writer.write_table(table, row_group_size=plan.rows_per_shard)
        if (shard + 1) % SHARDS_PER_FILE == 0:
            writer.close()
            store.put(plan_file(shard), buffer.getvalue())
            writer = None
    if writer is not None:
        writer.close()
        store.put(plan_file(shard), buffer.getvalue())
    held = {"identity": plan.identity, "num_rows": plan.num_rows, "rows_per_shard": plan.rows_per_shard, **about}
    content = json.dumps(held, indent=1, ensure_ascii=False).encode()
    if not store.create(RUN, content) and open_plan(store) != plan:
        raise ConfigError(f"output {store.url}: another run was started there at the same time, with other settings")


def refuse_changes(store: Store, old: Plan, new: Plan, tables: Iterator[pa.Table]) -> None:
    """Raises ConfigError naming the first setting or manifest row that differs from the plan in the output."""
    where = f"output {store.url} holds another run: "
    after = "; use a new output folder, or go on with the old settings"
    then, now = flatten(old.identity), flatten(new.identity)
    changed = [k for k in sorted(then.keys() | now.keys()) if then.get(k) != now.get(k)]
    if changed:
        said = "; ".join(f"{k} was {then.get(k)!r}, is {now.get(k)!r}" for k in changed[:5])
        raise ConfigError(where + said + after)
    if old.num_rows != new.num_rows:
        raise ConfigError(f"{where}the manifest had {old.num_rows:,} rows, has {new.num_rows:,}{after}")
    both = zip(planned_shards(store, old), cut(tables, old.rows_per_shard), strict=True)
    for shard, (held, table) in enumerate(both):
        if held.equals(table):
            continue
        if held.schema.names != table.schema.names:
            different = sorted(set(held.schema.names) ^ set(table.schema.names))
            raise ConfigError(f"{where}the manifest's columns differ: {', '.join(different)}{after}")
        row = next(i for i, (a, b) in enumerate(zip(held.to_pylist(), table.to_pylist(), strict=True)) if a != b)
        row_id = table["id"][row].as_py()
        raise ConfigError(f"{where}manifest row {shard * old.rows_per_shard + row} (id {row_id!r}) differs{after}")


def cut(tables: Iterator[pa.Table], rows: int) -> Iterator[pa.Table]:
    """The same rows in tables of `rows` (the last may be shorter), holding little more than one at a time."""
    held: list[pa.Table] = []
    count = 0
    for table in tables:
        held.append(table)
        count += len(table)
        if count >= rows:
            joined = pa.concat_tables(held, promote_options="permissive")
            whole = count - count % rows
            yield from (joined[i : i + rows].combine_chunks() for i in range(0, whole, rows))
            held, count = [joined[whole:]], count - whole
    if count:
        yield pa.concat_tables(held, promote_options="permissive").combine_chunks()


def planned_shards(store: Store, plan: Plan) -> Iterator[pa.Table]:
    """The rows of all shards in order, one plan file in memory at a time."""
    for first in range(0, plan.num_shards, SHARDS_PER_FILE):
        try:
            file = pq.ParquetFile(io.BytesIO(store.get(plan_file(first))))
        except (FileNotFoundError, pa.ArrowInvalid) as error:
            where = store.path(plan_file(first))
            raise ConfigError(f"{where}: the run's plan is missing or damaged; use a new output folder") from error
        yield from (file.read_row_group(group).combine_chunks() for group in range(file.num_row_groups))


def read_shard(store: Store, shard: int) -> pa.Table:
    """The rows of one shard: one row group, fetched alone."""
    with store.open(plan_file(shard)) as file:
        return pq.ParquetFile(file).read_row_group(shard % SHARDS_PER_FILE).combine_chunks()


def flatten(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """{"a": {"b": 1}} -> {"a.b": 1}"""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, dict):
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = value
    return flat
