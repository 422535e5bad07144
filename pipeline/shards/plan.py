"""The plan: the manifest's rows split into shards, once, and stored in the output.

    _plan/plan-00000-HASH.parquet   the first 100 shards: row group k is shard k
    _plan/run.json                  identity, settings, environment, and the names of those files; created last, only
                                    if absent
    _plan/retry-00001/              the same for a retry: the rows that had failed, in shards with the next numbers

The Parquet files are named by their contents, so a second driver that plans other rows at the same time can't overwrite
them, and damage is detected. A resumed run reads its shards from here, whatever happened to the manifest's files since,
and a changed manifest is detected row by row.
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

from pipeline import __version__
from pipeline.errors import ConfigError, redact
from pipeline.storage.store import Store

SHARDS_PER_FILE = 100  # they are in memory while they are written; reading one shard reads the file's whole footer
# Of run.json and all that is written beside it. A release that only adds keys keeps the number; one whose outputs older
# releases would misread raises it. Outputs from before the key existed have the format that is now number 1.
FORMAT_VERSION = 1
# Identity keys that newer releases have added, such as `sampling.top_k`, with the value that all releases before used
# in its place: an output that was started without the key continues with this value.
IDENTITY_DEFAULTS: dict[str, Any] = {}


@dataclass(frozen=True)
class Plan:
    """The identity of a run or of one of its retries, and its rows and shards."""

    identity: dict[str, Any]
    num_rows: NonNegativeInt
    rows_per_shard: PositiveInt
    generation: NonNegativeInt = 0  # 0: the manifest's rows; n: the rows that failed in generation n - 1
    first_shard: NonNegativeInt = 0  # shard numbers are unique in an output
    files: tuple[str, ...] = ()  # names of the Parquet files; set once they are written
    has_quality: bool = False  # its parts have schema.QUALITY_COLUMNS; False: an older release began the output
    attempt: NonNegativeInt = 0  # n: rows that the quality gate has rejected n times; 0: a run's or a retry's own rows
    remakes: bool = False  # the best attempts of rows that were rejected every time, from their seeds
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
    """All plans in the output: the first run's and its retries', oldest first; empty if there is no run."""
    plans: list[Plan] = []
    while plan := open_plan(store, len(plans)):
        plans.append(plan)
    return plans


def plans_of(store: Store) -> list[Plan]:
    """All plans in the output, oldest first.

    Raises:
        ConfigError: the folder has no run.
    """
    plans = open_plans(store)
    if not plans:
        raise ConfigError(f"{redact(store.url)}: no run in this folder: there is no _plan/run.json")
    return plans


def open_plan(store: Store, generation: int = 0) -> Plan | None:
    """One generation's plan; None if there is none.

    Raises:
        ConfigError: run.json is damaged, or a newer release wrote it in a format that this one does not know.
    """
    name = run_file(generation)
    try:
        content = store.get(name)
        refuse_newer_format(store.path(name), content)
        plan = replace(PLAN_ADAPTER.validate_json(content, strict=True), generation=generation)
        if len(plan.files) != -(-plan.num_shards // SHARDS_PER_FILE):
            raise ValueError(f"files: {len(plan.files)} for {plan.num_shards} shards")
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise ConfigError(f"{store.path(name)}: damaged: {first_problem(error)}; use a new output folder") from error
    return plan


def refuse_newer_format(path: str, content: bytes) -> None:
    """Raise ConfigError for a run.json with a newer format version, ValueError for one that has no whole number."""
    values = json.loads(content)
    found = values.get("format_version", FORMAT_VERSION) if isinstance(values, dict) else FORMAT_VERSION
    if type(found) is not int:
        raise ValueError(f"format_version must be a whole number, is {found!r:.100}")
    if found > FORMAT_VERSION:
        raise ConfigError(
            f"{path}: has format_version {found}, written by barkery {values.get('barkery')}; this is barkery "
            f"{__version__}, which reads up to {FORMAT_VERSION}: install a newer barkery, or use a new output folder"
        )


def first_problem(error: ValueError) -> str:
    """The first thing that is wrong with a JSON file of the output, as text."""
    if not isinstance(error, ValidationError):
        return str(error)
    first = error.errors()[0]
    return f"{'.'.join(map(str, first['loc']))} {first['msg']}".strip()


def write_plan(store: Store, plan: Plan, tables: Iterator[pa.Table], about: dict[str, Any]) -> Plan:
    """Write all shards, then run.json, which also gets `about`; return the plan with its files.

    A plan that was interrupted has no run.json and is written again.

    Raises:
        ConfigError: another driver wrote a different plan into this output at the same time.
    """
    names: list[str] = []
    for content in plan_files(tables, plan.rows_per_shard):
        names.append(file_name(len(names), content))
        store.put(f"{folder(plan.generation)}/{names[-1]}", content)
    plan = replace(plan, files=tuple(names))
    sizes = {
        name: getattr(plan, name)
        for name in ("num_rows", "rows_per_shard", "first_shard", "files", "has_quality", "attempt", "remakes")
    }
    values = {"format_version": FORMAT_VERSION, "identity": plan.identity, **sizes, "config": plan.config, **about}
    content = json.dumps(values, indent=1, ensure_ascii=False).encode()
    if not store.create(run_file(plan.generation), content) and open_plan(store, plan.generation) != plan:
        raise ConfigError(
            f"output {redact(store.url)}: another run was started there at the same time, with other settings or rows"
        )
    return plan


def plan_files(tables: Iterator[pa.Table], rows_per_shard: int) -> Iterator[bytes]:
    """The shards' rows as Parquet files of SHARDS_PER_FILE row groups."""
    shards = rechunk(tables, rows_per_shard)
    for first in shards:
        buffer = io.BytesIO()
        with pq.ParquetWriter(buffer, first.schema, compression="zstd") as writer:
            for table in chain([first], islice(shards, SHARDS_PER_FILE - 1)):
                writer.write_table(table, row_group_size=rows_per_shard)
        yield buffer.getvalue()


def file_name(number: int, content: bytes) -> str:
    return f"plan-{number:05d}-{hashlib.sha256(content).hexdigest()[:16]}.parquet"


def refuse_changes(store: Store, old: Plan, new: Plan, tables: Iterator[pa.Table]) -> None:
    """Compare a new plan and manifest with the plan in the output.

    Raises:
        ConfigError: it names the settings, or the first manifest row, that differ.
    """
    where = f"output {redact(store.url)} has another run: "
    after = "; use a new output folder, or continue with the old settings"
    now = flatten(new.identity)
    then = {key: value for key, value in IDENTITY_DEFAULTS.items() if key in now} | flatten(old.identity)
    changed = [k for k in sorted(then.keys() | now.keys()) if then.get(k) != now.get(k)]
    if changed:
        changes = "; ".join(f"{k} was {then.get(k)!r}, is {now.get(k)!r}" for k in changed[:5])
        raise ConfigError(where + changes + after)
    if old.num_rows != new.num_rows:
        raise ConfigError(f"{where}the manifest had {old.num_rows:,} rows, has {new.num_rows:,}{after}")
    both = zip(planned_shards(store, old), rechunk(tables, old.rows_per_shard), strict=True)
    for shard, (planned, table) in enumerate(both):
        if planned.equals(table):
            continue
        if planned.schema.names != table.schema.names:
            different = sorted(set(planned.schema.names) ^ set(table.schema.names))
            raise ConfigError(f"{where}the manifest's columns differ: {', '.join(different)}{after}")
        # Compare after a round trip, since Parquet changes types such as seconds to milliseconds; and by repr, since
        # nan is not equal to nan
        stored = pq.read_table(io.BytesIO(next(plan_files(iter([table]), len(table)))))
        pairs = zip(planned.to_pylist(), stored.to_pylist(), strict=True)
        row = next((i for i, (a, b) in enumerate(pairs) if repr(a) != repr(b)), None)
        if row is not None:
            row_id = table["id"][row].as_py()
            raise ConfigError(f"{where}manifest row {shard * old.rows_per_shard + row} (id {row_id!r}) differs{after}")


def rechunk(tables: Iterator[pa.Table], rows: int) -> Iterator[pa.Table]:
    """The same rows in tables of `rows` each (the last may be shorter), with little more than one in memory."""
    buffered: list[pa.Table] = []
    count = 0
    for table in tables:
        buffered.append(table)
        count += len(table)
        if count >= rows:
            joined = pa.concat_tables(buffered, promote_options="permissive")
            end = count - count % rows
            yield from (joined[i : i + rows].combine_chunks() for i in range(0, end, rows))
            buffered, count = [joined[end:]], count - end
    if count:
        yield pa.concat_tables(buffered, promote_options="permissive").combine_chunks()


def planned_shards(store: Store, plan: Plan) -> Iterator[pa.Table]:
    """The rows of all shards in order, one plan file in memory at a time."""
    for number, first in enumerate(plan.shards[::SHARDS_PER_FILE]):
        name = plan.file_of(first)
        try:
            content = store.get(name)
            if file_name(number, content) != plan.files[number]:
                raise pa.ArrowInvalid("its content is not what was written")
            file = pq.ParquetFile(io.BytesIO(content))
        except (FileNotFoundError, pa.ArrowInvalid) as error:
            raise ConfigError(
                f"{store.path(name)}: the run's plan is missing or damaged; use a new output folder"
            ) from error
        yield from (file.read_row_group(group).combine_chunks() for group in range(file.num_row_groups))


def read_shard(store: Store, plan: Plan, shard: int) -> pa.Table:
    """The rows of one shard: one row group, read without the others."""
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
