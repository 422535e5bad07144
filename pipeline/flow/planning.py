"""What is to be done, before anything starts: a manifest's rows, or those that failed, become a plan in the output."""

import hashlib
from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline import __version__
from pipeline.bark.build import load_text_encoder
from pipeline.bark.text import TOKENIZER_FILES, tokenizer_folder
from pipeline.checkpoints.checkpoint import Checkpoint
from pipeline.checkpoints.hub import resolve
from pipeline.config import RunConfig, parse, set_key
from pipeline.errors import ConfigError, redact
from pipeline.manifest.manifest import Manifest
from pipeline.shards.card import card
from pipeline.shards.plan import Plan, open_plans, part_name, planned_shards, refuse_changes, run_file, write_plan
from pipeline.shards.reader import RowCounts
from pipeline.shards.writer import Commit
from pipeline.storage.store import Store

ABOUT = {"barkery": __version__}
NOT_FOR_RETRIES = ("manifest", "output", "limit", "rows_per_shard")  # a retry takes its rows from the output


@dataclass(frozen=True)
class ModelInfo:
    """A checkpoint that was looked at: it is whole, and this is what the output says of it."""

    columns: dict[str, str]  # model, model_revision, generator
    commit: str | None  # of the hub, to load it by; None for a local folder
    tokenizer: str  # hash of its files

    @classmethod
    def check(cls, config: RunConfig) -> "ModelInfo":
        """A wrong model is found here, not by an actor. Raises ConfigError."""
        checkpoint = Checkpoint(resolve(config.model, config.revision))
        checkpoint.check()
        load_text_encoder(checkpoint, config.tokenizer)
        tokenizer = f"sha256:{tokenizer_hash(checkpoint.folder, config.tokenizer)}"
        commit = checkpoint.folder.name if checkpoint.folder.parent.name == "snapshots" else None
        name = config.model if commit else Path(config.model).name  # no path of this machine in a dataset
        revision = commit or f"sha256:{checkpoint.fingerprint}"
        return cls(
            {"model": name, "model_revision": revision, "generator": f"barkery {__version__}"}, commit, tokenizer
        )

    def identity(self, config: RunConfig) -> dict[str, Any]:
        """All that decides what is in the output."""
        kept = {key: self.columns[key] for key in ("model", "model_revision")}
        return config.identity | kept | {"tokenizer": self.tokenizer}


def tokenizer_hash(folder: Path, tokenizer: str | None) -> str:
    """Of the files that `TextEncoder.load` reads: by their content, wherever they lie."""
    whole, *parts = (tokenizer_folder(folder, tokenizer) / name for name in TOKENIZER_FILES)
    digest = hashlib.sha256()
    for path in [whole] if whole.exists() else [path for path in parts if path.exists()]:
        digest.update(path.name.encode() + hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()[:16]


def absolute(config: RunConfig) -> RunConfig:
    """Local paths as the workers need them, whose working directory may be another."""
    local = {
        key: str(Path(value).expanduser().resolve())
        for key in ("model", "tokenizer", "output", "manifest")
        if (value := getattr(config, key))
        and "://" not in value
        and (key == "output" or Path(value).expanduser().exists())
    }
    return config.model_copy(update=local)


def plan_manifest(config: RunConfig, store: Store, model: ModelInfo) -> list[Plan]:
    """The plans in the output, or a new one; a changed config, model or manifest is refused."""
    manifest = Manifest(config.manifest, config.storage_options, config.limit)
    num_rows = manifest.check()
    identity = model.identity(config)
    plans = open_plans(store)
    if plans:
        old = plans[0]
        asked = config.rows_per_shard or old.rows_per_shard
        refuse_changes(store, old, replace(old, identity=identity, num_rows=num_rows), manifest.tables())
        if asked != old.rows_per_shard:
            where = f"output {redact(store.url)}"
            raise ConfigError(f"{where} is planned with rows_per_shard {old.rows_per_shard}; it can't become {asked}")
        return plans
    store.check_writable()
    rows_per_shard = config.rows_per_shard or pick_rows_per_shard(num_rows, config)
    plan = Plan(identity, num_rows, rows_per_shard, config=saved(config))
    store.put("README.md", card(identity, model.columns, num_rows))
    return [write_plan(store, plan, manifest.tables(), ABOUT)]


def pick_rows_per_shard(num_rows: int, config: RunConfig) -> int:
    """4 to 64: small enough that every actor of the largest pool has several shards, large enough to fill slots."""
    most = max(pool.max_actors * pool.shards_in_flight for pool in config.pools.values())
    return min(64, max(4, -(-num_rows // (4 * most))))


def saved(config: RunConfig) -> dict[str, Any]:
    """The settings as they are kept beside the output: without storage options, and no password or signature in a
    URL. A retry takes its rows from the output, so it does not miss them."""
    kept = config.model_dump(mode="json", exclude={"storage_options"})
    return kept | {key: redact(kept[key]) for key in ("model", "tokenizer", "manifest", "output") if kept[key]}


def settings_of_retry(store: Store, last: Plan, now: RowCounts, seed: int | None, changes: list[str]) -> RunConfig:
    """How failed rows are tried again: as in the last plan, with a new seed; where that retry did not end, as it is.

    Raises:
        ConfigError: the run is not complete, or a change that a retry can't make.
    """
    if now.to_go and not last.generation:
        raise ConfigError(
            f"{redact(store.url)}: {now.to_go:,} rows are still to go; `barkery generate` goes on, then retry"
        )
    values = dict(last.config)
    if seed is not None or not now.to_go:
        values["seed"] = last.config["seed"] + 1 if seed is None else seed
    for change in changes:
        set_key(values, change)
        if (key := change.partition("=")[0].split(".")[0].strip()) in NOT_FOR_RETRIES:
            raise ConfigError(f"--set {key}: {key} can't be changed by a retry")
    where = f"{redact(store.url)}/{run_file(last.generation)}"
    config = parse(values, f"{where} with changes")
    if now.to_go and config.identity != parse(dict(last.config), where).identity:  # the same words again are no change
        raise ConfigError(f"{redact(store.url)}: the last retry is not complete; go on with it first, without changes")
    place = {"output": store.url, "storage_options": store.storage_options}  # where it was found, if it was moved
    return config.model_copy(update=place)


def plan_retry(config: RunConfig, store: Store, model: ModelInfo, last: Plan, held: list[Commit]) -> Plan:
    """A plan of all rows that failed in the last one, in shards that go on counting."""
    failing = {commit.shard: commit.failed for commit in held if commit.shard in last.shards and commit.failed}
    sizes = (sum(failing.values()), last.rows_per_shard)
    plan = Plan(model.identity(config), *sizes, last.generation + 1, last.shards.stop, config=saved(config))
    return write_plan(store, plan, failed_rows(store, last, failing.keys()), ABOUT)


def failed_rows(store: Store, plan: Plan, failing: Collection[int]) -> Iterator[pa.Table]:
    """What failed in some shards of a plan, as it was planned, but without seeds: the retry's own seed decides."""
    for shard, rows in zip(plan.shards, planned_shards(store, plan), strict=True):
        if shard not in failing:
            continue
        name = f"failures/{part_name(shard)}.parquet"
        ids = store.read(name, lambda file: pq.read_table(file, columns=["id"])["id"])
        rows = rows.filter(pc.is_in(rows["id"], value_set=ids.combine_chunks()))
        if "seed" in rows.schema.names:
            rows = rows.set_column(rows.schema.get_field_index("seed"), "seed", pa.nulls(len(rows), pa.int64()))
        yield rows
