"""Limits that follow from a run's own first rows: outside Q1 - 1.5 IQR ... Q3 + 1.5 IQR of a voice and language.

    _plan/probe/part-00000.json   the measures of the probe's rows, one file per shard; their sound is not kept
    _plan/limits.json             the bounds of every measure and group; made once, before anything is judged

The bounds depend on the plan's first rows and their seeds alone, so they are the same on any cluster, after any kill.
Source of the rule: Tukey 1977; Emilia (Amphion) uses it for seconds per character.
"""

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from pipeline.errors import ConfigError
from pipeline.quality.gate import MEASURES, Bounds
from pipeline.shards.plan import Plan, part_name
from pipeline.storage.store import Store

PROBE = "_plan/probe"
LIMITS = "_plan/limits.json"
LEAST = 20  # rows of a group; with fewer, the bounds of all rows are used
ALL = ""  # the group of all rows
REACH = 1.5  # times the range between the quartiles
Limits = Mapping[str, Mapping[str, Bounds]]  # by measure and group
Probed = tuple[str, Mapping[str, Any]]  # group and measures of one row


def group_of(row: Mapping[str, Any]) -> str:
    """The rows that one limit is for: those of one voice and one language."""
    return f"{row.get('voice') or ''}|{row.get('language') or 'en'}"


def probe_shards(plan: Plan, num_rows: int) -> list[int]:
    """The shards with the plan's first rows."""
    return list(plan.shards[: -(-num_rows // plan.rows_per_shard)])


def probed_shards(store: Store) -> set[int]:
    """Numbers of the shards that have been measured."""
    names = store.names(PROBE)
    return {int(name.removeprefix("part-").removesuffix(".json")) for name in names if name.endswith(".json")}


def write_probe(store: Store, shard: int, rows: Iterable[Probed]) -> None:
    """Keep the measures of one shard's rows."""
    content = [{"group": group, "measures": {m: quality.get(m) for m in MEASURES}} for group, quality in rows]
    store.put(f"{PROBE}/{part_name(shard)}.json", json.dumps(content).encode())


def read_limits(store: Store) -> Limits | None:
    """The run's limits; None before they are made.

    Raises:
        ConfigError: the file is damaged.
    """
    try:
        limits: Limits = json.loads(store.get(LIMITS))
        return {measure: {group: (low, high) for group, (low, high) in by.items()} for measure, by in limits.items()}
    except FileNotFoundError:
        return None
    except (ValueError, AttributeError, TypeError) as error:
        raise ConfigError(f"{store.path(LIMITS)}: damaged: {error}; delete it and run again") from error


def make_limits(store: Store, shards: Iterable[int]) -> Limits:
    """Make the limits from the probe's measures, and keep them."""
    values: dict[str, dict[str, list[float]]] = {measure: defaultdict(list) for measure in MEASURES}
    for shard in shards:
        for row in json.loads(store.get(f"{PROBE}/{part_name(shard)}.json")):
            for measure, value in row["measures"].items():
                if value is not None:
                    values[measure][row["group"]].append(value)
                    values[measure][ALL].append(value)
    limits = {
        measure: {group: bounds(found) for group, found in sorted(by.items()) if group == ALL or len(found) >= LEAST}
        for measure, by in values.items()
    }
    store.create(LIMITS, json.dumps(limits, indent=1).encode())
    kept = read_limits(store)  # another driver's are the same
    assert kept is not None
    return kept


def bounds(values: list[float]) -> Bounds:
    """From 1.5 times the range between the quartiles below the first one to as much above the third."""
    low, high = (float(value) for value in np.percentile(values, [25, 75]))
    reach = REACH * (high - low)
    return low - reach, high + reach
