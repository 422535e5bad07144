"""`barkery export`: an output's committed rows as files that trainers load.

A job like a run: a plan, shards that are written in parallel and committed one by one, and an end that can be repeated.

    .barkery/plan.json             what is exported, cut into shards (plan.py)
    .barkery/commits/SHARD.json    sizes of the shard's files; written last: only then is the shard done
    .barkery/done.json             written when tables and card are there

Killed and started again, it makes only what is missing. It never changes the output that it reads.
"""

import base64
import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial

import pyarrow as pa

from pipeline.errors import ConfigError, redact
from pipeline.export.card import write_card
from pipeline.export.clips import clips_of
from pipeline.export.croissant import croissant
from pipeline.export.formats import FORMATS
from pipeline.export.formats.base import Written
from pipeline.export.plan import (
    BYTES_PER_S,
    FOLDER,
    ExportPlan,
    ExportShard,
    Split,
    cut_shards,
    fingerprint,
    from_ranges,
    open_export,
    read_shards,
    shards_table,
    to_parquet,
    to_ranges,
    write_plan,
)
from pipeline.export.select import Piece, Selection, select_parts
from pipeline.export.settings import ExportSettings
from pipeline.flow.tasks import run_tasks
from pipeline.log import fields, log
from pipeline.shards.plan import Plan, plans_of
from pipeline.shards.reader import READS_AT_ONCE, RowCounts, commits, count_rows, query_part
from pipeline.shards.writer import Commit
from pipeline.spec import SAMPLE_RATE
from pipeline.storage.store import Store

PARTS_PER_TASK = 64  # of the selection: small reads
HERE_SAMPLES = 1800 * SAMPLE_RATE  # up to half an hour of audio is exported in this process: starting Ray takes longer
LOG_EVERY_S = 10.0
DONE = f"{FOLDER}/done.json"


@dataclass(frozen=True)
class ExportResult:
    """What an export has made, in this call and before."""

    plan: ExportPlan
    rows: int
    bytes: int  # of all files
    new_rows: int  # made in this call
    new_bytes: int
    seconds: float  # of this call


def export(source: Store, dest: Store, settings: ExportSettings, address: str | None = None) -> ExportResult:
    """Export the committed rows of an output; with the same arguments again, finish what is missing.

    Raises:
        ConfigError: the settings, the output or the destination do not allow it.
        IncompleteError: it stopped before the end; the same call goes on.
    """
    start = time.monotonic()
    if settings.format not in FORMATS:
        raise ConfigError(f"unknown format {settings.format!r}: use {', '.join(FORMATS)}")
    settings.check()
    refuse_same_folder(source, dest)
    plan = open_export(dest)
    if plan is None:
        refuse_other_content(dest)
        plan = make_plan(source, dest, settings, address)
    else:
        refuse_changes(source, dest, plan, settings)
    result = write_shards(source, dest, plan, settings, address, start)
    finish(source, dest, plan, result)
    return result


def make_plan(source: Store, dest: Store, settings: ExportSettings, address: str | None) -> ExportPlan:
    """Choose the rows and cut them into shards."""
    plans, committed = plans_of(source), commits(source)
    counts = count_rows(plans, committed)
    parts = [commit for commit in committed if commit.data]
    if not parts:
        raise ConfigError(f"{redact(source.url)}: no row is written yet, so there is nothing to export")
    check_columns(source, plans, parts, settings)
    if counts.to_go:
        log.warning(
            f"the run is not complete: {counts.to_go:,} rows are still to go; what is committed now is exported"
        )
    dest.check_writable(f"{FOLDER}/.writable")
    selection = select(source, settings, parts, address)
    for name in settings.split_names:
        if not selection.pieces[name]:
            reason = f"split {name} has no row" if len(settings.splits) > 1 else "no row meets the condition"
            hint = f"; {settings.split_by} has too few values" if len(settings.splits) > 1 else ""
            raise ConfigError(f"{redact(source.url)}: {reason}{hint}")
    audio_format = plans[0].identity.get("audio", {}).get("format", "flac")
    codec = settings.codec or FORMATS[settings.format].codec or audio_format
    rate = settings.sample_rate or SAMPLE_RATE
    table = shards_table(cut_shards(selection.pieces, BYTES_PER_S[codec] * rate // SAMPLE_RATE))
    shards_file, content = to_parquet(table)
    plan = ExportPlan(
        settings.format,
        settings.as_dict(),
        describe_source(source, plans[0], parts, counts),
        {name: split_size(selection.pieces[name], table, name) for name in settings.split_names},
        {"languages": dict(selection.languages.most_common()), "voices": dict(selection.voices.most_common(1000))},
        base64.b64encode(pa.unify_schemas(selection.schemas).serialize()).decode(),
        shards_file,
    )
    write_plan(dest, plan, content)
    return plan


def check_columns(source: Store, plans: list[Plan], parts: list[Commit], settings: ExportSettings) -> None:
    """Check the condition and the split column on the columns of each generation's first part."""
    firsts = [next((part for part in parts if part.shard in plan.shards), None) for plan in plans]
    schemas = [query_part(source, part, lambda file: file.schema_arrow).remove_metadata() for part in firsts if part]
    schema = pa.unify_schemas(schemas)
    if len(settings.splits) > 1 and (settings.split_by not in schema.names or settings.split_by == "audio"):
        known = ", ".join(name for name in schema.names if name != "audio")
        raise ConfigError(f"--split-by: there is no column {settings.split_by}; known are {known}")
    if settings.condition:
        settings.condition.check(schema)


def select(source: Store, settings: ExportSettings, parts: list[Commit], address: str | None) -> Selection:
    """Read the deciding columns of all parts, in parallel where there are many."""
    chunks = [parts[i : i + PARTS_PER_TASK] for i in range(0, len(parts), PARTS_PER_TASK)]
    task = partial(select_parts, source, settings)
    total = Selection({name: [] for name in settings.split_names})
    for found in run_tasks(task, chunks, address=address, on_ray=is_large(parts)):
        for name, pieces in found.pieces.items():
            total.pieces[name] += pieces
        total.schemas += [schema for schema in found.schemas if schema not in total.schemas]
        total.languages += found.languages
        total.voices += found.voices
    for pieces in total.pieces.values():
        pieces.sort(key=lambda piece: (piece.part, piece.start))
    total.schemas.sort(key=lambda schema: (-len(schema), str(schema)))  # the order of columns must not depend on timing
    return total


def is_large(parts: list[Commit]) -> bool:
    return sum(commit.num_samples for commit in parts) > HERE_SAMPLES


def split_size(pieces: list[Piece], table: pa.Table, name: str) -> Split:
    rows, samples = sum(piece.rows for piece in pieces), sum(piece.samples for piece in pieces)
    in_split = table.filter(pa.compute.equal(table["split"], name))
    return Split(rows, samples, in_split["shard"][-1].as_py() + 1)


def describe_source(source: Store, plan: Plan, parts: list[Commit], counts: RowCounts) -> dict[str, object]:
    """What an export records of the output that it reads."""
    identity = {key: plan.identity.get(key) for key in ("model", "model_revision", "seed", "sampling")}
    state = {"parts": to_ranges([part.shard for part in parts]), "fingerprint": fingerprint(parts)}
    name = redact(source.url).rstrip("/").rsplit("/", 1)[-1]
    audio_format = plan.identity.get("audio", {}).get("format", "flac")
    return {"url": name, **state, **asdict(counts), "audio_format": audio_format, "run": identity}


def refuse_same_folder(source: Store, dest: Store) -> None:
    inside = f"{dest.path('')}".startswith(source.path(""))
    if inside and dest.is_local == source.is_local:
        raise ConfigError(f"{redact(dest.url)}: is in the output {redact(source.url)} itself; use a folder outside")


def refuse_other_content(dest: Store) -> None:
    """Raise ConfigError if the folder has anything that is not ours."""
    if names := [name for name in dest.names("") if name != FOLDER]:
        raise ConfigError(f"{redact(dest.url)}: holds something else ({names[0]}); use a new or empty folder")


def refuse_changes(source: Store, dest: Store, plan: ExportPlan, settings: ExportSettings) -> None:
    """Raise ConfigError if the folder has an export with other settings or of another output."""
    now = settings.as_dict()
    changed = [key for key in now if json.loads(json.dumps(now[key])) != plan.settings.get(key)]
    if changed:
        changes = "; ".join(f"{key} was {plan.settings.get(key)!r}, is {now[key]!r}" for key in changed)
        raise ConfigError(f"{redact(dest.url)}: holds another export: {changes}; use a new folder")
    plans_of(source)
    planned = from_ranges(plan.source["parts"])
    if fingerprint([part for part in commits(source) if part.shard in planned]) != plan.source["fingerprint"]:
        raise ConfigError(
            f"{redact(dest.url)}: holds an export of other rows than {redact(source.url)} has now; use a new folder"
        )


def write_shards(
    source: Store, dest: Store, plan: ExportPlan, settings: ExportSettings, address: str | None, start: float
) -> ExportResult:
    """Write all shards that are not committed yet."""
    done = {name.removesuffix(".json") for name in dest.names(f"{FOLDER}/commits")}
    missing = [shard for shard in read_shards(dest, plan) if shard.name not in done]
    large = sum(piece.samples for shard in missing for piece in shard.pieces) > HERE_SAMPLES
    if missing:
        rows = sum(shard.rows for shard in missing)
        log.info(
            f"{rows:,} of {plan.rows:,} clips to export, in {len(missing):,} shard{'s' if len(missing) > 1 else ''}"
        )
    task = partial(write_shard, source, dest, plan, settings)
    new_rows = new_bytes = 0
    last_s = time.monotonic()
    for shard_rows, size in run_tasks(task, missing, address=address, on_ray=large and len(missing) > 1):
        new_rows, new_bytes = new_rows + shard_rows, new_bytes + size
        if time.monotonic() - last_s > LOG_EVERY_S:
            last_s = time.monotonic()
            rate = new_rows / (last_s - start)
            log.info(f"{new_rows:,} clips, {rate:,.0f} clips/s", extra=fields(rows=new_rows, bytes=new_bytes))
    total = sum(read_sizes(dest))
    return ExportResult(plan, plan.rows, total, new_rows, new_bytes, time.monotonic() - start)


def write_shard(
    source: Store, dest: Store, plan: ExportPlan, settings: ExportSettings, shard: ExportShard
) -> tuple[int, int]:
    """Write and commit one shard; returns its rows and bytes."""
    chosen = FORMATS[plan.format]
    clips = clips_of(source, shard, settings, settings.codec or chosen.codec, plan.arrow_schema.names)
    written: list[Written] = chosen.write(dest, plan, shard, clips)
    commit = {"rows": shard.rows, "files": [asdict(file) for file in written]}
    dest.put(f"{FOLDER}/commits/{shard.name}.json", json.dumps(commit).encode())
    return shard.rows, sum(file.bytes for file in written)


def read_sizes(dest: Store) -> Iterator[int]:
    """Bytes of all committed shards."""
    names = [f"{FOLDER}/commits/{name}" for name in dest.names(f"{FOLDER}/commits")]
    with ThreadPoolExecutor(READS_AT_ONCE) as pool:
        for content in pool.map(dest.get, names):
            yield sum(file["bytes"] for file in json.loads(content)["files"])


def finish(source: Store, dest: Store, plan: ExportPlan, result: ExportResult) -> None:
    """Write the tables and the card, unless an earlier call has."""
    if dest.exists(DONE):
        return
    chosen = FORMATS[plan.format]
    chosen.finish(dest, plan, read_shards(dest, plan))
    write_card(dest, plan, result.bytes)
    dest.put("croissant.json", croissant(plan))
    dest.put(DONE, json.dumps({"rows": plan.rows, "bytes": result.bytes}).encode())
