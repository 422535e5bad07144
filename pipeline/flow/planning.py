"""Checks a run before anything starts, and writes its plan: from the manifest's rows, or from rows that failed."""

import hashlib
import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pipeline import __version__
from pipeline.bark.build import load_text_encoder
from pipeline.bark.text import TOKENIZER_FILES, tokenizer_folder
from pipeline.checkpoints.checkpoint import Checkpoint
from pipeline.checkpoints.hub import resolve
from pipeline.config import RunConfig, parse, set_key
from pipeline.dataset.output_card import write_progress_card
from pipeline.errors import ConfigError, IncompleteError, redact
from pipeline.manifest.manifest import Manifest
from pipeline.quality.judges.load import check_judges, fingerprint
from pipeline.quality.next_attempt import NextAttempt
from pipeline.shards.environment import current_environment
from pipeline.shards.generations import chains, failed_rows
from pipeline.shards.plan import Plan, open_plans, refuse_changes, run_file, write_plan
from pipeline.shards.reader import RowCounts
from pipeline.shards.writer import Commit
from pipeline.storage.store import Store, absolute_url

NOT_FOR_RETRIES = ("manifest", "output", "limit", "rows_per_shard")  # a retry reads its rows from the output


@dataclass(frozen=True)
class ModelInfo:
    """A checked checkpoint, and what the output records of it."""

    columns: dict[str, str]  # output columns: model, model_revision, generator
    commit: str | None  # the hub's commit that actors load; None for a local folder
    tokenizer: str  # hash of the tokenizer's files
    judges: dict[str, Any]  # what decides their scores; empty without judges

    @classmethod
    def check(cls, config: RunConfig) -> "ModelInfo":
        """Read and check the model's files, so that errors appear before any actor starts; raises ConfigError."""
        checkpoint = Checkpoint(resolve(config.model, config.revision))
        checkpoint.check()
        load_text_encoder(checkpoint, config.tokenizer)
        tokenizer = f"sha256:{tokenizer_hash(checkpoint.folder, config.tokenizer)}"
        commit = checkpoint.folder.name if checkpoint.folder.parent.name == "snapshots" else None
        name = config.model if commit else Path(config.model).name  # a dataset should not show this machine's paths
        revision = commit or f"sha256:{checkpoint.fingerprint}"
        columns = {"model": name, "model_revision": revision, "generator": f"barkery {__version__}"}
        check_judges(config.judges)
        return cls(columns, commit, tokenizer, fingerprint(config.judges))

    def identity(self, config: RunConfig) -> dict[str, Any]:
        """Everything that decides what is in the output, as plain values."""
        model = {key: self.columns[key] for key in ("model", "model_revision")}
        judges = {"judges": self.judges} if self.judges else {}
        return config.identity | model | {"tokenizer": self.tokenizer} | judges


def about() -> dict[str, Any]:
    """What run.json records of the process that made the plan: barkery's version and the whole environment."""
    return {"barkery": __version__, "environment": current_environment()}


def tokenizer_hash(folder: Path, tokenizer: str | None) -> str:
    """Hash of the contents of the files that `TextEncoder.load` reads; their folder does not matter."""
    single_file, *parts = (tokenizer_folder(folder, tokenizer) / name for name in TOKENIZER_FILES)
    digest = hashlib.sha256()
    for path in [single_file] if single_file.exists() else [path for path in parts if path.exists()]:
        digest.update(path.name.encode() + hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()[:16]


def absolute(config: RunConfig) -> RunConfig:
    """The config with absolute local paths, since the workers' current directory may be another."""
    local = {
        key: absolute_url(value)
        for key in ("model", "tokenizer", "output", "manifest")
        if (value := getattr(config, key))
        and "://" not in value
        and (key == "output" or Path(value).expanduser().exists())
    }
    return config.model_copy(update=local)


def plan_manifest(config: RunConfig, store: Store, model: ModelInfo) -> list[Plan]:
    """The plans in the output, or a new one if there are none.

    Raises:
        ConfigError: the config, the model or the manifest differs from the plan in the output, or can't be used.
    """
    manifest = Manifest(config.manifest, config.storage_options, config.limit)
    num_rows = manifest.check()
    identity = model.identity(config)
    plans = open_plans(store)
    if plans:
        old = plans[0]
        rows_per_shard = config.rows_per_shard or old.rows_per_shard
        refuse_changes(store, old, replace(old, identity=identity, num_rows=num_rows), manifest.tables())
        if rows_per_shard != old.rows_per_shard:
            where = f"output {redact(store.url)} is planned with rows_per_shard {old.rows_per_shard}"
            raise ConfigError(f"{where}; it can't become {rows_per_shard}")
        return plans
    store.check_writable()
    rows_per_shard = config.rows_per_shard or pick_rows_per_shard(num_rows, config)
    plan = Plan(identity, num_rows, rows_per_shard, has_quality=True, config=settings_to_save(config))
    write_progress_card(store, identity, RowCounts(num_rows, 0, 0))
    return [write_plan(store, plan, manifest.tables(), about())]


def pick_rows_per_shard(num_rows: int, config: RunConfig) -> int:
    """4 to 64: few enough that every actor of the largest pool gets several shards, enough to fill the slots."""
    most = max(pool.max_actors * pool.shards_in_flight for pool in config.active_pools.values())
    return min(64, max(4, -(-num_rows // (4 * most))))


def settings_to_save(config: RunConfig) -> dict[str, Any]:
    """The settings for run.json, from which a retry starts.

    They have no storage options, and URLs without passwords and signatures: a retry reads its rows from the output, so
    it does not need them.
    """
    values = config.model_dump(mode="json", exclude={"storage_options"})
    return values | {key: redact(values[key]) for key in ("model", "tokenizer", "manifest", "output") if values[key]}


def settings_of_retry(
    store: Store, plans: list[Plan], now: RowCounts, seed: int | None, changes: list[str]
) -> RunConfig:
    """The settings of a retry: the last plan's with a new seed and `changes`; an unfinished retry keeps its own.

    Raises:
        ConfigError: the run is not complete, or a retry can't make one of the changes.
    """
    first = chains(plans)[-1][0]  # of the run, or of the retry that is not finished
    if now.to_go and not first.generation:
        raise ConfigError(
            f"{redact(store.url)}: {now.to_go:,} rows are still to go: finish them with `barkery generate`, then retry"
        )
    values = dict(first.config)
    if seed is not None or not now.to_go:
        values["seed"] = first.config["seed"] + 1 if seed is None else seed
    for change in changes:
        set_key(values, change)
        if (key := change.partition("=")[0].split(".")[0].strip()) in NOT_FOR_RETRIES:
            raise ConfigError(f"--set {key}: {key} can't be changed by a retry")
    where = f"{redact(store.url)}/{run_file(first.generation)}"
    config = parse(values, f"{where} with changes")
    # Repeating the retry's own changes is fine
    if now.to_go and config.identity != parse(dict(first.config), where).identity:
        raise ConfigError(f"{redact(store.url)}: the last retry is not complete; finish it first, without changes")
    location = {"output": store.url, "storage_options": store.storage_options}  # the folder may have been moved
    return config.model_copy(update=location)


def plan_retry(
    config: RunConfig, store: Store, model: ModelInfo, plans: list[Plan], commits: list[Commit], num_rows: int
) -> Plan:
    """Write a plan of all `num_rows` rows that are failing now, in shards with the next numbers."""
    last = plans[-1]
    plan = Plan(
        model.identity(config),
        num_rows,
        last.rows_per_shard,
        last.generation + 1,
        last.shards.stop,
        has_quality=last.has_quality or config.quality.is_on,
        config=settings_to_save(config),
    )
    return write_plan(store, plan, failed_rows(store, plans, commits), about())


def plan_next_attempt(config: RunConfig, store: Store, plans: list[Plan], commits: list[Commit]) -> Plan | None:
    """Write the plan of the rows that are spoken again, after all shards of the last plan are committed; None if there
    are none.

    Raises:
        IncompleteError: they are more than `quality.max_extra` allows.
    """
    last = plans[-1]
    following = NextAttempt.after(last, commits, config.quality)
    num_rows = sum(len(rows) for rows in following.rows(store)) if following else 0
    if following is None or not num_rows:
        return None
    if not following.remakes:
        refuse_too_many(config, plans, num_rows)
    plan = replace(
        last,
        num_rows=num_rows,
        generation=last.generation + 1,
        first_shard=last.shards.stop,
        files=(),
        attempt=last.attempt + 1,
        remakes=following.remakes,
    )
    return write_plan(store, plan, following.rows(store), about())


def refuse_too_many(config: RunConfig, plans: list[Plan], num_rejected: int) -> None:
    """Stop a run that rejects more rows than it may speak again, before it speaks them.

    Raises:
        IncompleteError: the message says how many, and what to change.
    """
    num_rows, share = plans[0].num_rows, config.quality.max_extra
    spoken_again = sum(plan.num_rows for plan in chains(plans)[-1] if plan.attempt and not plan.remakes)
    if spoken_again + num_rejected > math.ceil(share * num_rows):
        raise IncompleteError(
            f"the quality gate rejects too many rows: {num_rejected:,} are to be spoken again after {spoken_again:,} "
            f"before, and quality.max_extra {share:g} allows {math.ceil(share * num_rows):,} of {num_rows:,} rows. The "
            "reasons are in failures/ (column error_message). Raise quality.max_extra and run the same command again, "
            "or use other limits in quality.reject and a new output folder"
        )
