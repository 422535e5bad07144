"""Is the output what its commits say? Looks at everything, changes nothing."""

import hashlib
import io
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import pairwise

import pyarrow as pa
import pyarrow.parquet as pq
import soundfile

from pipeline.errors import ConfigError
from pipeline.shards.plan import Plan, open_plan, part_name, planned_shards
from pipeline.shards.reader import commits, committed_shards
from pipeline.shards.storage import Store
from pipeline.shards.writer import Commit
from pipeline.spec import SAMPLE_RATE

AT_ONCE = 4  # parts in memory
MP3_FRAME = 1152  # samples; encoders pad by a few frames


@dataclass
class Report:
    """What was looked at, and everything that is wrong."""

    rows: int = 0
    written: int = 0
    failed: int = 0
    clips: int = 0
    missing_shards: int = 0  # not made yet: no fault
    problems: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Status:
    """Where a run stands, by its plan and its commits alone."""

    plan: Plan
    commits: list[Commit]

    @property
    def lines(self) -> Iterator[str]:
        written, failed = sum(c.written for c in self.commits), sum(c.failed for c in self.commits)
        audio_h = sum(c.num_samples for c in self.commits) / SAMPLE_RATE / 3600
        left = self.plan.num_rows - written - failed
        yield f"rows     {self.plan.num_rows:,} = written {written:,} + failed {failed:,} + to go {left:,}"
        yield f"shards   {len(self.commits):,} of {self.plan.num_shards:,}"
        yield f"audio    {audio_h:.2f} h"
        yield f"model    {self.plan.identity.get('model')} {self.plan.identity.get('model_revision')}"


def plan_of(store: Store) -> Plan:
    """
    Raises:
        ConfigError: there is no run in this folder.
    """
    plan = open_plan(store)
    if plan is None:
        raise ConfigError(f"{store.url}: holds no run: there is no _plan/run.json")
    return plan


def status(store: Store) -> Status:
    return Status(plan_of(store), commits(store))


def failure_kinds(store: Store, held: list[Commit]) -> Counter[str]:
    """Failed rows by their error_type."""
    kinds: Counter[str] = Counter()
    for commit in held:
        if commit.failures:
            content = store.get(f"failures/{part_name(commit.shard)}.parquet")
            kinds.update(pq.read_table(io.BytesIO(content), columns=["error_type"])["error_type"].to_pylist())
    return kinds


def verify(store: Store) -> Report:
    """Hashes, counts, ids against the plan, every clip decoded, and files that belong to no commit."""
    plan, report = plan_of(store), Report()
    held = {commit.shard: commit for commit in commits(store)}
    report.problems += orphans(store, held)
    report.missing_shards = plan.num_shards - len(held.keys() & set(range(plan.num_shards)))
    strange = sorted(committed_shards(store) - (held.keys() & set(range(plan.num_shards))))
    report.problems += [f"_commits/{part_name(s)}.json: is not the commit of a planned shard" for s in strange]
    seen: list[str] = []
    with ThreadPoolExecutor(AT_ONCE) as pool:
        shards = ((shard, table["id"].to_pylist()) for shard, table in enumerate(planned_shards(store, plan)))
        due = ((held[shard], ids) for shard, ids in shards if shard in held)
        for commit, ids, clips, problems in pool.map(lambda pair: check(store, *pair), due):
            report.problems += problems
            report.written += commit.written
            report.failed += commit.failed
            report.clips += clips
            seen += ids
    report.rows = report.written + report.failed
    seen.sort()
    report.problems += [f"id {a!r} is there more than once" for a, b in pairwise(seen) if a == b]
    return report


def orphans(store: Store, held: dict[int, Commit]) -> Iterator[str]:
    """Parts without a commit: a run that stopped leaves some, and the next one writes them again."""
    for kind in ("data", "failures"):
        claimed = {f"{part_name(c.shard)}.parquet" for c in held.values() if getattr(c, kind)}
        for name in sorted(set(store.names(kind)) - claimed):
            yield f"{kind}/{name}: belongs to no commit"


def check(store: Store, commit: Commit, planned: list[str]) -> tuple[Commit, list[str], int, list[str]]:
    """One shard: its commit, the ids found in it, clips decoded, problems."""
    problems: list[str] = []
    tables: dict[str, pa.Table] = {}
    for kind, count in (("data", commit.written), ("failures", commit.failed)):
        name, file = f"{kind}/{part_name(commit.shard)}.parquet", getattr(commit, kind)
        if file is None:
            problems += [f"{name}: the commit counts {count} rows and names no file"] if count else []
            continue
        try:
            content = store.get(name)
            if hashlib.sha256(content).hexdigest() != file.sha256:
                problems.append(f"{name}: is not what was committed ({len(content):,} bytes, was {file.bytes:,})")
            tables[kind] = pq.read_table(io.BytesIO(content))
        except FileNotFoundError:
            problems.append(f"{name}: is missing")
            continue
        except (pa.ArrowInvalid, OSError) as error:
            problems.append(f"{name}: can't be read: {error}")
            continue
        if len(tables[kind]) != count:
            problems.append(f"{name}: holds {len(tables[kind])} rows, its commit says {count}")
    ids = [i for table in tables.values() for i in table["id"].to_pylist()]
    lost, strange = set(planned) - set(ids), set(ids) - set(planned)
    problems += [f"{part_name(commit.shard)}: id {i!r} is planned and not there" for i in sorted(lost)[:3]]
    problems += [f"{part_name(commit.shard)}: id {i!r} is there and not planned" for i in sorted(strange)[:3]]
    clips, broken = decode(tables["data"], part_name(commit.shard)) if "data" in tables else (0, [])
    return commit, ids, clips, problems + broken


def decode(table: pa.Table, part: str) -> tuple[int, list[str]]:
    """Every clip to samples: how many were right, and what is wrong with the others."""
    clips, problems = 0, []
    columns = ("id", "audio", "num_samples", "sampling_rate")
    for row_id, audio, num_samples, rate in zip(*(table[c].to_pylist() for c in columns), strict=True):
        try:
            samples, found_rate = soundfile.read(io.BytesIO(audio["bytes"]), dtype="int16")
        except (soundfile.LibsndfileError, TypeError, KeyError) as error:
            problems.append(f"data/{part}.parquet: id {row_id!r}: can't be decoded: {error}")
            continue
        exact = audio["bytes"][:4] in (b"fLaC", b"RIFF")  # MP3 comes in frames
        if found_rate != rate or abs(len(samples) - num_samples) > (0 if exact else 4 * MP3_FRAME):
            problems.append(
                f"data/{part}.parquet: id {row_id!r}: {len(samples)} samples at {found_rate} Hz, "
                f"should be {num_samples} at {rate}"
            )
            continue
        clips += 1
    return clips, problems
