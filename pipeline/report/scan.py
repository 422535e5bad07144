"""Reads everything but the sound of an output: the numbers of the report, and which clips it will show."""

import hashlib
import heapq
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

from pipeline.dataset.columns import find_column
from pipeline.report.measures import MEASURES
from pipeline.shards.reader import query_part, read_columns
from pipeline.shards.writer import Commit
from pipeline.storage.store import Store

MAX_GROUPS = 12  # voices, and languages, with histograms of their own
CANDIDATES_OF_VOICE = 8
Group = tuple[str, str]  # ("voice", "low"), ("language", "en") or ("", "all")
ALL: Group = ("", "all")


@dataclass(frozen=True, order=True)
class Candidate:
    """A clip that may be shown: the smaller its rank, the sooner."""

    rank: float
    part: int
    position: int  # of the row in the part
    id: str


@dataclass
class Scan:
    """What some parts say: counts that can be added up, and the best candidates for each reason to show a clip."""

    per_reason: int
    groups: dict[Group, dict[str, np.ndarray]] = field(default_factory=dict)  # counts of each measure
    sizes: Counter[Group] = field(default_factory=Counter)
    attempts: Counter[int] = field(default_factory=Counter)  # of written rows
    verdicts: Counter[str] = field(default_factory=Counter)
    stops: Counter[str] = field(default_factory=Counter)
    candidates: dict[str, list[Candidate]] = field(default_factory=dict)  # by reason

    def offer(self, reason: str, found: Iterable[Candidate], count: int | None = None) -> None:
        """Keep the best candidates for one reason."""
        before = self.candidates.get(reason, [])
        self.candidates[reason] = heapq.nsmallest(count or self.per_reason, [*before, *found])

    def add(self, other: "Scan") -> None:
        self.sizes += other.sizes
        self.attempts += other.attempts
        self.verdicts += other.verdicts
        self.stops += other.stops
        for group, counts in other.groups.items():
            mine = self.groups.setdefault(group, {})
            for name, each in counts.items():
                mine[name] = mine[name] + each if name in mine else each
        for reason, found in other.candidates.items():
            self.offer(reason, found, CANDIDATES_OF_VOICE if reason.startswith("voice ") else None)

    def largest(self, kind: str) -> list[Group]:
        """The voices or the languages with most clips."""
        found = sorted((group for group in self.sizes if group[0] == kind), key=lambda g: (-self.sizes[g], g))
        return found[:MAX_GROUPS]


def scan_parts(store: Store, per_reason: int, commits: list[Commit]) -> Scan:
    """Scan a few parts."""
    total = Scan(per_reason)
    for commit in commits:
        table = query_part(store, commit, read_columns)
        scan_table(total, commit.shard, table)
        trim(total)
    return total


def scan_table(total: Scan, part: int, table: pa.Table) -> None:
    """Add one part's rows."""
    ids = table["id"].to_pylist()
    for name, counts in (("stop", total.stops), ("verdict", total.verdicts)):
        counts.update(value for value in strings(table, name) if value)
    if "attempts" in table.column_names:  # draws of single segments count in the semantic stage
        for attempts in table["attempts"].to_pylist():
            total.attempts[sum(each.get("segment") is None for each in attempts or ()) or 1] += 1
    members = {ALL: np.ones(len(ids), bool)} | groups_of(table)
    values = {measure.name: measure.values(table) for measure in MEASURES}
    for group, mask in members.items():
        total.sizes[group] += int(mask.sum())
        counts_of = total.groups.setdefault(group, {})
        for measure in MEASURES:
            if measure.in_summary:
                counted = measure.count(values[measure.name][mask])
                counts_of[measure.name] = counts_of.get(measure.name, 0) + counted
    order = [stable_rank(row_id) for row_id in ids]
    total.offer("random", (Candidate(order[i], part, i, ids[i]) for i in range(len(ids))))
    for (kind, name), mask in members.items():
        if kind == "voice":
            found = (Candidate(order[i], part, int(i), ids[i]) for i in np.flatnonzero(mask))
            total.offer(f"voice {name}", found, CANDIDATES_OF_VOICE)
    for measure in MEASURES:
        for end in ("low", "high") if measure.worst == "both" else (measure.worst,):
            sign = 1 if end == "low" else -1
            each = values[measure.name]
            found = (Candidate(sign * each[i], part, int(i), ids[i]) for i in np.flatnonzero(np.isfinite(each)))
            total.offer(f"{end} {measure.name}", found)


def groups_of(table: pa.Table) -> dict[Group, np.ndarray]:
    """Which rows are of each voice and of each language."""
    found: dict[Group, np.ndarray] = {}
    for kind in ("voice", "language"):
        column = np.array([value or "(none)" for value in table[kind].to_pylist()], dtype=object)
        found |= {(kind, str(name)): column == name for name in sorted(set(column))}
    return found


def trim(total: Scan) -> None:
    """Bound the memory where every row has a voice of its own: rare ones lose their histograms and candidates."""
    for kind in ("voice", "language"):
        names = [group for group in total.sizes if group[0] == kind]
        for group in sorted(names, key=lambda each: -total.sizes[each])[20 * MAX_GROUPS :]:
            del total.sizes[group]
            total.groups.pop(group, None)
            total.candidates.pop(f"{kind} {group[1]}", None)


def strings(table: pa.Table, name: str) -> list[Any]:
    """A text column, or a field of `quality`; empty if there is none."""
    column = find_column(table, name)
    return [] if column is None else list(column.to_pylist())


def stable_rank(row_id: str) -> float:
    """A random number that follows from the id, so that a report of a run in progress keeps its random clips."""
    return int.from_bytes(hashlib.blake2b(row_id.encode(), digest_size=8, person=b"barkery-report").digest(), "big")


def choose(scan: Scan, clips: int) -> dict[Candidate, list[str]]:
    """At most `clips` candidates with the reasons for each: one of each reason in turn, until there are enough."""
    voices = {f"voice {name}" for _, name in scan.largest("voice")}
    queues = {r: list(c) for r, c in sorted(scan.candidates.items()) if not r.startswith("voice ") or r in voices}
    chosen: dict[tuple[int, int], Candidate] = {}
    while len(chosen) < clips and any(queues.values()):
        for queue in queues.values():
            if queue and len(chosen) < clips:
                found = queue.pop(0)
                chosen.setdefault((found.part, found.position), found)
    reasons: dict[Candidate, list[str]] = {found: [] for found in chosen.values()}
    named = max(5, clips // 8)  # only the first of each reason are named for it
    for reason, found_list in scan.candidates.items():
        if reason.startswith("voice ") and reason not in voices:
            continue
        for found in found_list if reason == "random" else found_list[:named]:
            if (found.part, found.position) in chosen:
                reasons[chosen[found.part, found.position]].append(reason)
    return dict(sorted(reasons.items(), key=lambda pair: (pair[0].part, pair[0].position)))
