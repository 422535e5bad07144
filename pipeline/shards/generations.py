"""Which rows of an output are failing now: those that failed and that no later plan has taken.

A run is a chain of plans: its own rows, then, once per attempt, the rows that its quality gate rejected. A retry begins
another chain, with all rows that are failing then.
"""

from collections.abc import Iterator, Sequence

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline.shards.plan import Plan, part_name, planned_shards
from pipeline.shards.writer import Commit
from pipeline.storage.store import Store


def chains(plans: list[Plan]) -> list[list[Plan]]:
    """The plans of the run and of each retry, each with its attempts."""
    found: list[list[Plan]] = []
    for plan in plans:
        if plan.attempt:
            found[-1].append(plan)
        else:
            found.append([plan])
    return found


def failures(store: Store, shard: int, columns: Sequence[str]) -> pa.Table:
    """These columns of a shard's failures."""
    return store.read(f"failures/{part_name(shard)}.parquet", lambda file: pq.read_table(file, columns=list(columns)))


def parts_with_failures(store: Store, plans: list[Plan], commits: list[Commit]) -> Iterator[tuple[Commit, pa.Array]]:
    """Each part of the last chain that has failures, and the ids of rows that the next attempt has taken."""
    chain = chains(plans)[-1]
    for plan, following in zip(chain, [*chain[1:], None], strict=True):
        taken = planned_ids(store, following)
        yield from ((commit, taken) for commit in commits if commit.shard in plan.shards and commit.failures)


def not_taken(table: pa.Table, taken: pa.Array) -> pa.Table:
    """The rows of a failures part that are failing now."""
    return table.filter(pc.invert(pc.is_in(table["id"], value_set=taken)))


def planned_ids(store: Store, plan: Plan | None) -> pa.Array:
    """The ids of a plan's rows."""
    ids = [table["id"].combine_chunks() for table in planned_shards(store, plan)] if plan else []
    return pa.concat_arrays(ids) if ids else pa.array([], pa.string())


def failed_rows(store: Store, plans: list[Plan], commits: list[Commit]) -> Iterator[pa.Table]:
    """The rows that are failing now as they were planned, for a retry: without seeds, since its own seed applies, and
    without the attempts so far."""
    failing = {
        commit.shard: not_taken(failures(store, commit.shard, ["id"]), taken)["id"].combine_chunks()
        for commit, taken in parts_with_failures(store, plans, commits)
    }
    for plan in chains(plans)[-1]:
        for shard, rows in zip(plan.shards, planned_shards(store, plan), strict=True):
            if len(failing.get(shard, ())):
                rows = rows.filter(pc.is_in(rows["id"], value_set=failing[shard]))
                rows = rows.drop_columns([name for name in ("attempts",) if name in rows.schema.names])
                if "seed" in rows.schema.names:
                    rows = with_column(rows, "seed", pa.nulls(len(rows), pa.int64()))
                yield rows


def with_column(rows: pa.Table, name: str, values: pa.Array) -> pa.Table:
    """The rows with this column set, or added at the end."""
    if name in rows.schema.names:
        return rows.set_column(rows.schema.get_field_index(name), name, values)
    return rows.append_column(name, values)
