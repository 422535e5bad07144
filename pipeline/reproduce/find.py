"""Finds rows in an output by their ids, or at random, without the manifest."""

import random
from bisect import bisect_right
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.errors import ConfigError, one_line, redact
from pipeline.shards.plan import SHARDS_PER_FILE, Plan, plans_of
from pipeline.shards.reader import commits, query_part, read_columns, read_part
from pipeline.shards.writer import Commit, find_commit
from pipeline.storage.store import Store

FILES_AT_ONCE = 8


@dataclass(frozen=True)
class FoundRow:
    """A row that became audio."""

    plan: Plan
    commit: Commit
    row: dict[str, Any]  # all columns, with the audio


def find_row(store: Store, row_id: str) -> FoundRow:
    """The row with this id.

    Raises:
        ConfigError: the output has no such row, it has failed, or it is not made yet.
    """
    where = f"{redact(store.url)}: row {row_id!r}"
    planned = False
    for plan in reversed(plans_of(store)):  # a row is in a later plan because it had failed in an earlier one
        shard = shard_of(store, plan, row_id)
        if shard is None:
            continue
        planned = True
        commit = find_commit(store, shard)
        if commit is None:
            continue
        if commit.data and (row := row_with(store, commit, row_id)):
            return FoundRow(plan, commit, row)
        failures = query_part(store, commit, read_columns, "failures").to_pylist()
        failure = next((each for each in failures if each["id"] == row_id), None)
        if failure:
            reason = f"{failure['error_type']}: {failure['error_message']}"
            raise ConfigError(f"{where} did not become audio, it failed in stage {failure['stage']} ({reason})")
    raise ConfigError(f"{where} {'is not made yet' if planned else 'is not in this output'}")


def shard_of(store: Store, plan: Plan, row_id: str) -> int | None:
    """The shard in which a plan has this id, read from the plan's own copy of the manifest."""

    def search(number: int) -> int | None:
        first = plan.shards[number * SHARDS_PER_FILE]
        name = plan.file_of(first)
        try:
            ids = store.read(name, lambda file: pq.read_table(file, columns=["id"])["id"])
        except (FileNotFoundError, pa.ArrowException) as error:
            raise ConfigError(f"{store.path(name)}: the run's plan is missing or damaged: {one_line(error)}") from error
        position = ids.index(row_id).as_py()
        return None if position < 0 else first + int(position) // plan.rows_per_shard

    with ThreadPoolExecutor(FILES_AT_ONCE) as pool:
        return next((shard for shard in pool.map(search, range(len(plan.files))) if shard is not None), None)


def random_rows(store: Store, count: int, seed: int) -> Iterator[FoundRow]:
    """`count` different written rows, drawn at random; all of them if there are fewer.

    Raises:
        ConfigError: no row is written yet, or a part is damaged.
    """
    plans = plans_of(store)
    written = [commit for commit in commits(store) if commit.data]
    ends = list(accumulate(commit.written for commit in written))
    if not ends:
        raise ConfigError(f"{redact(store.url)}: no row is written yet")
    chosen = sorted(random.Random(seed).sample(range(ends[-1]), min(count, ends[-1])))
    by_commit: dict[int, list[int]] = {}
    for position in chosen:
        number = bisect_right(ends, position)
        by_commit.setdefault(number, []).append(position - (ends[number] - written[number].written))
    for number, positions in by_commit.items():
        commit = written[number]
        plan = next(plan for plan in plans if commit.shard in plan.shards)
        for row in read_part(store, commit).take(positions).to_pylist():
            yield FoundRow(plan, commit, row)


def row_with(store: Store, commit: Commit, row_id: str) -> dict[str, Any] | None:
    """The row of a part with this id; None if the part does not have it."""
    table = read_part(store, commit)
    position = table["id"].index(row_id).as_py()
    return None if position < 0 else dict(table.slice(position, 1).to_pylist()[0])
