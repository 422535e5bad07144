"""A run: check, plan, go through the pools until every shard is committed, add up.

What Ray can't mend by itself is mended by the idea that also makes a resume: list the commits, run what is missing.
"""

import logging
import os
import re
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import RayError

from pipeline import __version__
from pipeline.bark.build import load_text_encoder
from pipeline.config import RunConfig
from pipeline.errors import ConfigError, IncompleteError
from pipeline.flow import preflight
from pipeline.flow.actors import Setup
from pipeline.flow.pools import receipts
from pipeline.flow.progress import Board, Reporter, Tally
from pipeline.manifest import Manifest
from pipeline.model.checkpoint import Checkpoint
from pipeline.model.hub import resolve
from pipeline.shards.card import card
from pipeline.shards.plan import Plan, open_plan, refuse_changes, write_plan
from pipeline.shards.reader import commits, committed_shards
from pipeline.shards.storage import Store

SHARDS_PER_ROUND = 10_000  # in one execution: bounds what the driver holds, whatever the manifest's size


@dataclass(frozen=True)
class Summary:
    """What stands in the output at the end: every row is in exactly one of two places."""

    num_rows: int
    written: int
    failed: int

    def __str__(self) -> str:
        return f"in {self.num_rows:,} = written {self.written:,} + failed {self.failed:,}"


def run(config: RunConfig, address: str | None = None) -> Summary:
    """Everything from a config to a complete output.

    Raises:
        ConfigError: it can't start as asked; nothing was started.
        IncompleteError: it stopped with rows missing; the same command goes on from there.
    """
    config = absolute(config)
    store = Store(config.output, config.storage_options)
    checkpoint = Checkpoint(resolve(config.model, config.revision))
    checkpoint.check()  # a wrong model is found here, not by an actor
    load_text_encoder(checkpoint, config.tokenizer)
    model, revision = about_model(config, checkpoint)
    plan = make_plan(config, store, model)
    missing = sorted(set(range(plan.num_shards)) - committed_shards(store))
    if missing:
        connect(address)
        if not config.cluster_can_grow:
            preflight.check(config, preflight.alive_nodes(ray.nodes()))
        board = Board.remote()  # type: ignore[attr-defined]  # ray.remote made it a factory
        work(plan, missing, store, Setup(config, model, revision, board))
    else:
        print("every shard is committed already: nothing to do", file=sys.stderr)
    return add_up(plan, store)


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


def about_model(config: RunConfig, checkpoint: Checkpoint) -> tuple[dict[str, str], str | None]:
    """The output's columns about the model, and the commit to load it by (None for a local folder)."""
    commit = checkpoint.folder.name if checkpoint.folder.parent.name == "snapshots" else None
    name = config.model if commit else Path(config.model).name  # no path of this machine in a dataset
    revision = commit or f"sha256:{checkpoint.fingerprint}"
    return {"model": name, "model_revision": revision, "generator": f"barkery {__version__}"}, commit


def make_plan(config: RunConfig, store: Store, model: dict[str, str]) -> Plan:
    """The plan in the output, or a new one; a changed config, model or manifest is refused."""
    manifest = Manifest(config.manifest, config.storage_options, config.limit)
    num_rows = manifest.check()
    identity = config.identity | {"model": model["model"], "model_revision": model["model_revision"]}
    old = open_plan(store)
    if old:
        asked = config.rows_per_shard or old.rows_per_shard
        refuse_changes(store, old, replace(old, identity=identity, num_rows=num_rows), manifest.tables())
        if asked != old.rows_per_shard:
            raise ConfigError(
                f"output {store.url} is planned with rows_per_shard {old.rows_per_shard}; it can't become {asked}"
            )
        return old
    store.check_writable()
    plan = Plan(identity, num_rows, config.rows_per_shard or pick_rows_per_shard(num_rows, config))
    store.put("README.md", card(identity, model, num_rows))
    write_plan(store, plan, manifest.tables(), {"barkery": __version__})
    return plan


def pick_rows_per_shard(num_rows: int, config: RunConfig) -> int:
    """4 to 64: small enough that every actor of the largest pool has several shards, large enough to fill slots."""
    pools = config.pools
    most = max(p.max_actors * p.shards_in_flight for p in (pools.semantic, pools.coarse, pools.fine, pools.decode))
    return min(64, max(4, -(-num_rows // (4 * most))))


def connect(address: str | None) -> None:
    """The cluster at `address` (or RAY_ADDRESS, which `ray job submit` sets), else a private one on this machine.

    Never by accident: a bare `ray.init()` would join any cluster that happens to run here.
    """
    if ray.is_initialized():
        return
    address = address or os.environ.get("RAY_ADDRESS") or "local"
    extra: dict[str, Any] = {}
    if address == "local":
        extra["include_dashboard"] = False
        # Actors share cores: a thread that waits for another must not spin on a core that the other needs. Spinning,
        # two processes of two threads on two cores took 8 times as long for a decode step as one after the other.
        # Here, for Ray's processes to inherit, and in cluster.yaml: as a runtime_env it would cost every actor a new
        # process in place of one that Ray has ready.
        os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    try:
        ray.init(address=address, logging_level=logging.ERROR, **extra)
    except ConnectionError as error:
        raise ConfigError(f"Ray at {address}: can't connect: {error}") from error


def work(plan: Plan, missing: list[int], store: Store, setup: Setup) -> None:
    """Rounds over what is missing, until nothing is or a round commits nothing."""
    before = plan.num_rows - sum(plan.rows_in(shard) for shard in missing)
    tally = Tally(plan.num_rows, rows_before=before)
    with Reporter(tally, setup.board) as reporter:
        while missing:
            error = run_round(missing[:SHARDS_PER_ROUND], setup, tally)
            left = sorted(set(missing) - committed_shards(store))
            if error and len(left) == len(missing):
                raise IncompleteError(
                    f"{len(left):,} of {plan.num_shards:,} shards are missing and the last round committed none: "
                    f"{first_line(error)}; mend that and run the same command again"
                ) from error
            if error:
                print(f"round ended early ({first_line(error)}); {len(left):,} shards to go", file=sys.stderr)
            missing = left
    reporter.console.print(reporter.table())
    reporter.console.print(f"{tally.audio_s / 3600:.3f} h of audio at {tally.speed:.2f}x real time")


def run_round(shards: list[int], setup: Setup, tally: Tally) -> Exception | None:
    """One execution over these shards; what ended it early, if anything did."""
    try:
        for receipt in receipts(shards, setup):
            tally.written += receipt["written"]
            tally.failed += receipt["failed"]
            tally.num_samples += receipt["num_samples"]
    except (RayError, TimeoutError) as error:
        return error
    return None


def first_line(error: Exception) -> str:
    """The cause of a failed task in one line: the last line of Ray's text that names an exception, Ray's own only
    where there is no other."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    named = [line for line in lines if re.match(r"[\w.]*(Error|Exception)\b.*: ", line)]
    causes = [line for line in named if not line.startswith("ray.")] or named
    return (causes or lines[:1] or [type(error).__name__])[-1]


def add_up(plan: Plan, store: Store) -> Summary:
    """Every row in exactly one place, by the commits.

    Raises:
        IncompleteError: the sum is wrong.
    """
    held = commits(store)
    written, failed = sum(c.written for c in held), sum(c.failed for c in held)
    if written + failed != plan.num_rows or len(held) != plan.num_shards:
        raise IncompleteError(
            f"in {plan.num_rows:,}, but written {written:,} + failed {failed:,} in {len(held):,} of "
            f"{plan.num_shards:,} shards; run the same command again"
        )
    return Summary(plan.num_rows, written, failed)
