"""Checks an output against its plans and commits: reads everything, changes nothing."""

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
from pipeline.shards.environment import environment_notes
from pipeline.shards.generations import chains, failures, not_taken, parts_with_failures
from pipeline.shards.plan import Plan, part_name, planned_shards, plans_of
from pipeline.shards.reader import RowCounts, commits, committed_shards, count_rows
from pipeline.shards.writer import Commit, read_commit
from pipeline.spec import SAMPLE_RATE
from pipeline.storage.store import Store

PARTS_IN_MEMORY = 4
CLIP = ("audio", "num_samples", "sampling_rate")  # the columns of a clip that are checked
MP3_FRAME = 1152  # samples; encoders pad by a few frames


@dataclass
class Report:
    """What was checked, and everything that is wrong."""

    counts: RowCounts
    clips: int = 0  # decoded without a problem
    missing_shards: int = 0  # not made yet, which is no problem
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)  # worth knowing, and no problem


@dataclass(frozen=True)
class Status:
    """The progress of a run, from its plans and commits alone."""

    plans: list[Plan]
    commits: list[Commit]

    @property
    def lines(self) -> Iterator[str]:
        now, last = count_rows(self.plans, self.commits), self.plans[-1]
        audio_h = sum(c.num_samples for c in self.commits) / SAMPLE_RATE / 3600
        yield f"rows     {now.num_rows:,} = written {now.written:,} + failed {now.failed:,} + to go {now.to_go:,}"
        yield f"shards   {len(self.commits):,} of {last.shards.stop:,}"
        if now.is_gated:
            yield f"quality  {now.verdicts}"
        yield f"audio    {audio_h:.2f} h"
        yield f"model    {last.identity.get('model')} {last.identity.get('model_revision')}"
        if retries := chains(self.plans)[1:]:
            yield f"retries  {len(retries)}, the last one of {retries[-1][0].num_rows:,} rows"


def status(store: Store) -> Status:
    """Read a run's progress; raises ConfigError if the folder has no run."""
    return Status(plans_of(store), commits(store))


def failure_kinds(store: Store, found: Status) -> Counter[str]:
    """The rows that are failing now by error_type; `unreadable` where a file can't be read (`verify` says why)."""
    kinds: Counter[str] = Counter()
    for commit, taken in parts_with_failures(store, found.plans, found.commits):
        try:
            table = not_taken(failures(store, commit.shard, ["id", "error_type"]), taken)
            kinds.update(table["error_type"].to_pylist())
        except (OSError, pa.ArrowException, KeyError):
            kinds["unreadable"] += commit.failed
    return kinds


def verify(store: Store) -> Report:
    """Check hashes, counts, and ids against the plans, decode every clip, and find files that belong to no commit.

    Raises:
        ConfigError: the folder has no run, or its plan is damaged.
    """
    plans = plans_of(store)
    commits, unreadable = readable_commits(store)
    report = Report(count_rows(plans, list(commits.values())), problems=list(unreadable.values()))
    report.notes += environment_notes(store, commits.values())
    report.problems += orphans(store, commits, unreadable.keys())
    planned = set(range(plans[-1].shards.stop))
    report.missing_shards = len(planned - commits.keys() - unreadable.keys())
    planned_names = {f"{part_name(shard)}.json" for shard in planned}
    unplanned = sorted(set(store.names("_commits")) - planned_names)
    report.problems += [f"_commits/{name}: is not the commit of a planned shard" for name in unplanned]
    written: list[str] = []
    with ThreadPoolExecutor(PARTS_IN_MEMORY) as pool:
        for plan in plans:
            ids: list[str] = []
            shards = zip(plan.shards, planned_shards(store, plan), strict=True)
            pairs = ((commits[shard], table["id"].to_pylist()) for shard, table in shards if shard in commits)
            for found in pool.map(lambda pair: check(store, *pair), pairs):
                report.problems += found.problems
                report.clips += found.clips
                written += found.written
                ids += found.written + found.failed
            report.problems += repeated(ids, "more than once")
    report.problems += sorted(set(repeated(written, "in data more than once")) - set(report.problems))
    return report


def readable_commits(store: Store) -> tuple[dict[int, Commit], dict[int, str]]:
    """The commits by shard, and for each shard whose commit can't be read the reason."""
    commits: dict[int, Commit] = {}
    unreadable: dict[int, str] = {}
    for shard in sorted(committed_shards(store)):
        try:
            commits[shard] = read_commit(store, shard)
        except ConfigError as error:
            unreadable[shard] = str(error)
    return commits, unreadable


def repeated(ids: list[str], where: str) -> list[str]:
    """One line for each repetition of an id; `where` completes "id 'x' is there ..."."""
    ids = sorted(ids)
    return [f"id {a!r} is there {where}" for a, b in pairwise(ids) if a == b]


def orphans(store: Store, commits: dict[int, Commit], unreadable: Collection[int]) -> Iterator[str]:
    """One line for each part without a commit. An interrupted run leaves some; the next one overwrites them."""
    reported = {f"{part_name(shard)}.parquet" for shard in unreadable}
    for kind in ("data", "failures"):
        expected = {f"{part_name(c.shard)}.parquet" for c in commits.values() if getattr(c, kind)}
        for name in sorted(set(store.names(kind)) - expected - reported):
            yield f"{kind}/{name}: belongs to no commit"


@dataclass(frozen=True)
class ShardReport:
    """One checked shard: the ids in data and in failures, the number of decoded clips, and what is wrong."""

    written: list[str]
    failed: list[str]
    clips: int
    problems: list[str]


def check(store: Store, commit: Commit, planned: list[str]) -> ShardReport:
    """Check one committed shard against its planned ids."""
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
                problems.append(f"{name}: differs from what was committed ({len(content):,} bytes, was {file.bytes:,})")
            tables[kind] = pq.read_table(io.BytesIO(content))
            if missing := sorted({"id", *(CLIP if kind == "data" else ())} - set(tables[kind].column_names)):
                del tables[kind]
                raise pa.ArrowInvalid(f"it has no column {', '.join(missing)}")
        except FileNotFoundError:
            problems.append(f"{name}: is missing")
            continue
        except (pa.ArrowException, OSError) as error:
            problems.append(f"{name}: can't be read: {one_line(error)}")
            continue
        if len(tables[kind]) != count:
            problems.append(f"{name}: holds {len(tables[kind])} rows, its commit says {count}")
    written, failed = (tables[k]["id"].to_pylist() if k in tables else [] for k in ("data", "failures"))
    all_readable = all(kind in tables for kind in ("data", "failures") if getattr(commit, kind))
    part = part_name(commit.shard)
    missing_ids, unplanned = set(planned) - {*written, *failed}, {*written, *failed} - set(planned)
    if all_readable:  # otherwise the unreadable file is reported, and its ids are unknown
        problems += [f"{part}: id {i!r} is planned and not there" for i in sorted(missing_ids)[:3]]
    problems += [f"{part}: id {i!r} is there and not planned" for i in sorted(unplanned)[:3]]
    if "data" not in tables:
        return ShardReport(written, failed, 0, problems)
    num_samples = sum(filter(None, tables["data"]["num_samples"].to_pylist()))
    if num_samples != commit.num_samples:
        problems.append(f"data/{part}.parquet: {num_samples:,} samples, its commit says {commit.num_samples:,}")
    clips, clip_problems = decode(tables["data"], part)
    return ShardReport(written, failed, clips, problems + clip_problems)


def decode(table: pa.Table, part: str) -> tuple[int, list[str]]:
    """Decode every clip of a part: the number of correct ones, and what is wrong with the others."""
    clips, problems = 0, []
    for row_id, audio, num_samples, rate in zip(*(table[c].to_pylist() for c in ("id", *CLIP)), strict=True):
        try:
            samples, found_rate = soundfile.read(io.BytesIO(audio["bytes"]), dtype="int16")
        except (soundfile.LibsndfileError, TypeError, KeyError) as error:
            problems.append(f"data/{part}.parquet: id {row_id!r}: can't be decoded: {error}")
            continue
        if num_samples is None or rate is None:
            problems.append(f"data/{part}.parquet: id {row_id!r}: num_samples or sampling_rate is null")
            continue
        exact = audio["bytes"][:4] in (b"fLaC", b"RIFF")  # MP3 pads to whole frames
        if found_rate != rate or abs(len(samples) - num_samples) > (0 if exact else 4 * MP3_FRAME):
            problems.append(
                f"data/{part}.parquet: id {row_id!r}: {len(samples)} samples at {found_rate} Hz, "
                f"should be {num_samples} at {rate}"
            )
            continue
        clips += 1
    return clips, problems
