"""The plan: the manifest's rows cut into shards, once, kept with the output.

    _plan/plan-00000-HASH.parquet   the first 100 shards: row group k is shard k
    _plan/run.json                  what decides the output, and the names of those files; created last, only if absent
    _plan/retry-00001/              the same for a retry: the rows that had failed, in shards that go on counting

A plan's files are named by their contents: a second driver that plans other rows at the same time can't touch them, and
a damaged one is noticed. A resumed run finds the same shards whatever became of the manifest's files, and a changed
manifest is noticed row by row.
"""

import hashlib
import io
import json
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import chain, islice
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import NonNegativeInt, PositiveInt, TypeAdapter, ValidationError

from pipeline.errors import ConfigError, redact
from pipeline.storage.store import Store

SHARDS_PER_FILE = 100  # held in memory while they are written; each shard reads the whole footer


@dataclass(frozen=True)
class Plan:
    """What a run is: its identity, and how many rows and shards."""

    identity: dict[str, Any]
    num_rows: NonNegativeInt
    rows_per_shard: PositiveInt
    generation: NonNegativeInt = 0  # 0: the manifest's rows; n: those that had failed in n - 1
    first_shard: NonNegativeInt = 0  # numbers are never used twice in an output
    files: tuple[str, ...] = ()  # names; known once they are written
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
        return f"{folder(self.generation)}/{self.files[(shard - self.first_shard) // SHARDS_PER_FILE]}"


PLAN_ADAPTER = TypeAdapter(Plan)


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
        raise ConfigError(f"{redact(store.url)}: holds no run: there is no _plan/run.json")
    return plans


def open_plan(store: Store, generation: int = 0) -> Plan | None:
    """One generation's plan, if it is there."""
    name = run_file(generation)
    try:
        plan = replace(PLAN_ADAPTER.validate_json(store.get(name), strict=True), generation=generation)
        if len(plan.files) != -(-plan.num_shards // SHARDS_PER_FILE):
            raise ValueError(f"files: {len(plan.files)} for {plan.num_shards} shards")
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise ConfigError(f"{store.path(name)}: damaged: {problem(error)}; use a new output folder") from error
    return plan


def problem(error: ValueError) -> str:
    """The first thing that is wrong with a JSON file of ours."""
    if not isinstance(error, ValidationError):
        return str(error)
    first = error.errors()[0]
    return f"{'.'.join(map(str, first['loc']))} {first['msg']}".strip()


def write_plan(store: Store, plan: Plan, tables: Iterator[pa.Table], about: dict[str, Any]) -> Plan:
    """Write all shards, then run.json; the plan with its files. One left half-written has no run.json and is written
    again."""
    names: list[str] = []
    for content in plan_files(tables, plan.rows_per_shard):
        names.append(file_name(len(names), content))
        store.put(f"{folder(plan.generation)}/{names[-1]}", content)
    plan = replace(plan, files=tuple(names))
    sizes = {name: getattr(plan, name) for name in ("num_rows", "rows_per_shard", "first_shard", "files")}
    held = {"identity": plan.identity, **sizes, "config": plan.config, **about}
    content = json.dumps(held, indent=1, ensure_ascii=False).encode()
    if not store.create(run_file(plan.generation), content) and open_plan(store, plan.generation) != plan:
        raise ConfigError(
            f"output {redact(store.url)}: another run was started there at the same time, with other settings or rows"
        )
    return plan


def plan_files(tables: Iterator[pa.Table], rows_per_shard: int) -> Iterator[bytes]:
    """The shards' rows as Parquet, SHARDS_PER_FILE row groups in each."""
    shards = cut(tables, rows_per_shard)
    for first in shards:
        buffer = io.BytesIO()
        with pq.ParquetWriter(buffer, first.schema, compression="zstd") as writer:
            for table in chain([first], islice(shards, SHARDS_PER_FILE - 1)):
                writer.write_table(table, row_group_size=rows_per_shard)
        yield buffer.getvalue()


def file_name(number: int, content: bytes) -> str:
    return f"plan-{number:05d}-{hashlib.sha256(content).hexdigest()[:16]}.parquet"


def refuse_changes(store: Store, old: Plan, new: Plan, tables: Iterator[pa.Table]) -> None:
    """Raises ConfigError naming the first setting or manifest row that differs from the plan in the output."""
    where = f"output {redact(store.url)} holds another run: "
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
        # As Parquet keeps it: seconds become milliseconds, for one. And by repr, since nan is not equal to nan.
        kept = pq.read_table(io.BytesIO(next(plan_files(iter([table]), len(table)))))
        pairs = zip(held.to_pylist(), kept.to_pylist(), strict=True)
        row = next((i for i, (a, b) in enumerate(pairs) if repr(a) != repr(b)), None)
        if row is not None:
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
    for number, first in enumerate(plan.shards[::SHARDS_PER_FILE]):
        name = plan.file_of(first)
        try:
            content = store.get(name)
            if file_name(number, content) != plan.files[number]:
                raise pa.ArrowInvalid("it is not what was written")
            file = pq.ParquetFile(io.BytesIO(content))
        except (FileNotFoundError, pa.ArrowInvalid) as error:
            raise ConfigError(
                f"{store.path(name)}: the run's plan is missing or damaged; use a new output folder"
            ) from error
        yield from (file.read_row_group(group).combine_chunks() for group in range(file.num_row_groups))


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
