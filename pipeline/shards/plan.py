"""The plan: the manifest's rows cut into shards, once, kept with the output.

    _plan/plan-00000.parquet   the first 1000 shards: row group k is shard k
    _plan/run.json             what decides the output; written last, so it makes the plan count
    _plan/retry-00001/         the same for a retry: the rows that had failed, in shards that go on counting

A resumed run finds the same shards whatever became of the manifest's files, and a changed manifest is noticed row
by row.
"""

import io
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.errors import ConfigError
from pipeline.shards.storage import Store

SHARDS_PER_FILE = 100  # held in memory while they are written; each shard reads the whole footer


@dataclass(frozen=True)
class Plan:
    """What a run is: its identity, and how many rows and shards."""

    identity: dict[str, Any]
    num_rows: int
    rows_per_shard: int
    generation: int = 0  # 0: the manifest's rows; n: those that had failed in n - 1
    first_shard: int = 0  # numbers are never used twice in an output
    config: dict[str, Any] = field(default_factory=dict, compare=False)  # for a retry to start from; no secrets

    @property
    def num_shards(self) -> int:
        return -(-self.num_rows // self.rows_per_shard)

    @property
    def shards(self) -> range:
        return range(self.first_shard, self.first_shard + self.num_shards)

    def rows_in(self, shard: int) -> int:
        return min(self.rows_per_shard, self.num_rows - (shard - self.first_shard) * self.rows_per_shard)

    def file_of(self, shard: int) -> str:
        return f"{folder(self.generation)}/plan-{(shard - self.first_shard) // SHARDS_PER_FILE:05d}.parquet"


def folder(generation: int) -> str:
    return f"_plan/retry-{generation:05d}" if generation else "_plan"


def run_file(generation: int) -> str:
    return f"{folder(generation)}/run.json"


def part_name(shard: int) -> str:
    return f"part-{shard:05d}"


def open_plans(store: Store) -> list[Plan]:
    """The plans that lie in the output: the manifest's and its retries', oldest first; empty where there is no run."""
    plans: list[Plan] = []
    while plan := open_plan(store, len(plans)):
        plans.append(plan)
    return plans


def plans_of(store: Store) -> list[Plan]:
    """
    Raises:
        ConfigError: there is no run in this folder.
    """
    plans = open_plans(store)
    if not plans:
        raise ConfigError(f"{store.url}: holds no run: there is no _plan/run.json")
    return plans


def open_plan(store: Store, generation: int = 0) -> Plan | None:
    """One generation's plan, if it is there."""
    name = run_file(generation)
    try:
        held = json.loads(store.get(name))
        sizes = (held["num_rows"], held["rows_per_shard"])
        return Plan(held["identity"], *sizes, generation, held.get("first_shard", 0), held.get("config", {}))
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"{store.path(name)}: damaged: {error}; use a new output folder") from error


def write_plan(store: Store, plan: Plan, tables: Iterator[pa.Table], about: dict[str, Any]) -> None:
    """Write all shards, then run.json. A plan left half-written has no run.json and is written again."""
    buffer, writer, count = io.BytesIO(), None, 0
    for count, table in enumerate(cut(tables, plan.rows_per_shard), 1):
        if writer is None:
            buffer = io.BytesIO()
            writer = pq.ParquetWriter(buffer, table.schema, compression="zstd")
        writer.write_table(table, row_group_size=plan.rows_per_shard)
        if count % SHARDS_PER_FILE == 0:
            writer.close()
            store.put(plan.file_of(plan.first_shard + count - 1), buffer.getvalue())
            writer = None
    if writer is not None:
        writer.close()
        store.put(plan.file_of(plan.first_shard + count - 1), buffer.getvalue())
    sizes = {"num_rows": plan.num_rows, "rows_per_shard": plan.rows_per_shard, "first_shard": plan.first_shard}
    held = {"identity": plan.identity, **sizes, "config": plan.config, **about}
    content = json.dumps(held, indent=1, ensure_ascii=False).encode()
    if not store.create(run_file(plan.generation), content) and open_plan(store, plan.generation) != plan:
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
    for first in plan.shards[::SHARDS_PER_FILE]:
        expected = min(SHARDS_PER_FILE, plan.shards.stop - first)
        try:
            file = pq.ParquetFile(io.BytesIO(store.get(plan.file_of(first))))
            if file.num_row_groups != expected:
                raise pa.ArrowInvalid(f"{file.num_row_groups} row groups, not {expected}")
        except (FileNotFoundError, pa.ArrowInvalid) as error:
            where = store.path(plan.file_of(first))
            raise ConfigError(f"{where}: the run's plan is missing or damaged; use a new output folder") from error
        yield from (file.read_row_group(group).combine_chunks() for group in range(expected))


def read_shard(store: Store, plan: Plan, shard: int) -> pa.Table:
    """The rows of one shard: one row group, fetched alone."""
    group = (shard - plan.first_shard) % SHARDS_PER_FILE
    return store.read(plan.file_of(shard), lambda file: pq.ParquetFile(file).read_row_group(group).combine_chunks())


def flatten(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """{"a": {"b": 1}} -> {"a.b": 1}"""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, dict):
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = value
    return flat
