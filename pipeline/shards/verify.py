"""Is the output what its commits say? Looks at everything, changes nothing."""

import hashlib
import io
from collections import Counter
from collections.abc import Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import pairwise

import pyarrow as pa
import pyarrow.parquet as pq
import soundfile

from pipeline.errors import ConfigError, one_line
from pipeline.shards.plan import Plan, part_name, planned_shards, plans_of
from pipeline.shards.reader import RowCounts, commits, committed_shards, count_rows
from pipeline.shards.writer import Commit, read_commit
from pipeline.spec import SAMPLE_RATE
from pipeline.storage.store import Store

AT_ONCE = 4  # parts in memory
CLIP = ("audio", "num_samples", "sampling_rate")  # columns that are looked into
MP3_FRAME = 1152  # samples; encoders pad by a few frames


@dataclass
class Report:
    """What was looked at, and everything that is wrong."""

    counts: RowCounts
    clips: int = 0
    missing_shards: int = 0  # not made yet: no fault
    problems: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Status:
    """Where a run stands, by its plans and its commits alone."""

    plans: list[Plan]
    commits: list[Commit]

    @property
    def lines(self) -> Iterator[str]:
        now, last = count_rows(self.plans, self.commits), self.plans[-1]
        audio_h = sum(c.num_samples for c in self.commits) / SAMPLE_RATE / 3600
        yield f"rows     {now.num_rows:,} = written {now.written:,} + failed {now.failed:,} + to go {now.to_go:,}"
        yield f"shards   {len(self.commits):,} of {last.shards.stop:,}"
        yield f"audio    {audio_h:.2f} h"
        yield f"model    {last.identity.get('model')} {last.identity.get('model_revision')}"
        if last.generation:
            yield f"retries  {last.generation}, the last one of {last.num_rows:,} rows"

    @property
    def current_failures(self) -> list[Commit]:
        """Commits whose failed rows were not tried again."""
        return [commit for commit in self.commits if commit.shard in self.plans[-1].shards]


def status(store: Store) -> Status:
    return Status(plans_of(store), commits(store))


def failure_kinds(store: Store, held: list[Commit]) -> Counter[str]:
    """Failed rows by their error_type, as far as their files can be read; `verify` says more of the others."""
    kinds: Counter[str] = Counter()
    for commit in held:
        if commit.failures:
            try:
                content = store.get(f"failures/{part_name(commit.shard)}.parquet")
                kinds.update(pq.read_table(io.BytesIO(content), columns=["error_type"])["error_type"].to_pylist())
            except (OSError, pa.ArrowException, KeyError):
                kinds["unreadable"] += commit.failed
    return kinds


def verify(store: Store) -> Report:
    """Hashes, counts, ids against the plan, every clip decoded, and files that belong to no commit."""
    plans = plans_of(store)
    held, damaged = readable_commits(store)
    report = Report(count_rows(plans, list(held.values())), problems=list(damaged.values()))
    report.problems += orphans(store, held, damaged.keys())
    planned = set(range(plans[-1].shards.stop))
    report.missing_shards = len(planned - held.keys() - damaged.keys())
    known = {f"{part_name(shard)}.json" for shard in planned}
    strange = sorted(set(store.names("_commits")) - known)
    report.problems += [f"_commits/{name}: is not the commit of a planned shard" for name in strange]
    spoken: list[str] = []
    with ThreadPoolExecutor(AT_ONCE) as pool:
        for plan in plans:
            due: list[str] = []
            shards = zip(plan.shards, planned_shards(store, plan), strict=True)
            made = ((held[shard], table["id"].to_pylist()) for shard, table in shards if shard in held)
            for found in pool.map(lambda pair: check(store, *pair), made):
                report.problems += found.problems
                report.clips += found.clips
                spoken += found.spoken
                due += found.spoken + found.failed
            report.problems += repeated(due, "more than once")
    report.problems += sorted(set(repeated(spoken, "spoken more than once")) - set(report.problems))
    return report


def readable_commits(store: Store) -> tuple[dict[int, Commit], dict[int, str]]:
    """By shard; and what is wrong with the others."""
    held: dict[int, Commit] = {}
    damaged: dict[int, str] = {}
    for shard in sorted(committed_shards(store)):
        try:
            held[shard] = read_commit(store, shard)
        except ConfigError as error:
            damaged[shard] = str(error)
    return held, damaged


def repeated(ids: list[str], how: str) -> list[str]:
    ids = sorted(ids)
    return [f"id {a!r} is there {how}" for a, b in pairwise(ids) if a == b]


def orphans(store: Store, held: dict[int, Commit], damaged: Collection[int]) -> Iterator[str]:
    """Parts without a commit: a run that stopped leaves some, and the next one writes them again."""
    unread = {f"{part_name(shard)}.parquet" for shard in damaged}  # named already
    for kind in ("data", "failures"):
        claimed = {f"{part_name(c.shard)}.parquet" for c in held.values() if getattr(c, kind)}
        for name in sorted(set(store.names(kind)) - claimed - unread):
            yield f"{kind}/{name}: belongs to no commit"


@dataclass(frozen=True)
class ShardReport:
    """In one shard: the ids in data and in failures, how many clips could be decoded, what is wrong."""

    spoken: list[str]
    failed: list[str]
    clips: int
    problems: list[str]


def check(store: Store, commit: Commit, planned: list[str]) -> ShardReport:
    """One committed shard against its plan."""
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
            if lacking := sorted({"id", *(CLIP if kind == "data" else ())} - set(tables[kind].column_names)):
                del tables[kind]
                raise pa.ArrowInvalid(f"it has no column {', '.join(lacking)}")
        except FileNotFoundError:
            problems.append(f"{name}: is missing")
            continue
        except (pa.ArrowException, OSError) as error:
            problems.append(f"{name}: can't be read: {one_line(error)}")
            continue
        if len(tables[kind]) != count:
            problems.append(f"{name}: holds {len(tables[kind])} rows, its commit says {count}")
    spoken, failed = (tables[k]["id"].to_pylist() if k in tables else [] for k in ("data", "failures"))
    whole = all(kind in tables for kind in ("data", "failures") if getattr(commit, kind))
    lost, strange = set(planned) - {*spoken, *failed}, {*spoken, *failed} - set(planned)
    if whole:  # else the file was named already
        problems += [f"{part_name(commit.shard)}: id {i!r} is planned and not there" for i in sorted(lost)[:3]]
    problems += [f"{part_name(commit.shard)}: id {i!r} is there and not planned" for i in sorted(strange)[:3]]
    if (
        "data" in tables
        and (made := sum(filter(None, tables["data"]["num_samples"].to_pylist()))) != commit.num_samples
    ):
        problems.append(
            f"data/{part_name(commit.shard)}.parquet: {made:,} samples, its commit says {commit.num_samples:,}"
        )
    clips, broken = decode(tables["data"], part_name(commit.shard)) if "data" in tables else (0, [])
    return ShardReport(spoken, failed, clips, problems + broken)


def decode(table: pa.Table, part: str) -> tuple[int, list[str]]:
    """Every clip to samples: how many were right, and what is wrong with the others."""
    clips, problems = 0, []
    for row_id, audio, num_samples, rate in zip(*(table[c].to_pylist() for c in ("id", *CLIP)), strict=True):
        try:
            samples, found_rate = soundfile.read(io.BytesIO(audio["bytes"]), dtype="int16")
        except (soundfile.LibsndfileError, TypeError, KeyError) as error:
            problems.append(f"data/{part}.parquet: id {row_id!r}: can't be decoded: {error}")
            continue
        if num_samples is None or rate is None:
            problems.append(f"data/{part}.parquet: id {row_id!r}: says neither its length nor its rate")
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
