"""A run: check, plan, go through the pools until every shard is committed, add up.

What Ray can't mend by itself is mended by the idea that also makes a resume: list the commits, run what is missing.
"""

import logging
import os
import re
from typing import Any

import ray
from ray.exceptions import RayError

from pipeline.config import RunConfig
from pipeline.errors import ConfigError, IncompleteError, StorageError
from pipeline.flow import kernel_agreement as kernel_agreement
from pipeline.flow import preflight
from pipeline.flow.actors import Setup
from pipeline.flow.planning import ModelInfo, absolute, plan_manifest, plan_retry, settings_of_retry
from pipeline.flow.pools import receipts
from pipeline.flow.progress import Board, Reporter, Tally
from pipeline.log import log
from pipeline.shards.plan import Plan, plans_of
from pipeline.shards.reader import RowCounts, commits, committed_shards, count_rows
from pipeline.storage.store import Store

IDLE_ROUNDS = 5  # in a row without a commit and without a culprit: to find one that hangs or raises can take 4
NON_RETRYABLE = (StorageError.__name__, ConfigError.__name__)  # another round would find the same
ALREADY_COMMITTED = (
    "shard {} was committed already when it was made here: another run is at work on this output, or a process died "
    "after its commit. Nothing is lost or doubled; of two runs, one can be stopped."
)
SHARDS_PER_ROUND = 10_000  # in one execution: bounds what the driver holds, whatever the manifest's size


def run(config: RunConfig, address: str | None = None) -> RowCounts:
    """Everything from a config to a complete output.

    Raises:
        ConfigError: it can't start as asked; nothing was started.
        IncompleteError: it stopped with rows missing; the same command goes on from there.
    """
    config = absolute(config)
    store = Store(config.output, config.storage_options)
    model = ModelInfo.check(config)
    plans = plan_manifest(config, store, model)
    return complete(config, store, model, plans, plans[0], address)


def retry(store: Store, seed: int | None, changes: list[str], address: str | None = None) -> RowCounts:
    """The rows that failed, once more, with another seed and changed settings; what they were stays on record.

    Raises:
        ConfigError, IncompleteError: as `run`.
    """
    plans, held = plans_of(store), commits(store)
    now = count_rows(plans, held)
    config = absolute(settings_of_retry(store, plans[-1], now, seed, changes))
    if not (now.to_go or now.failed):
        log.info("no row stands failed: nothing to do")
        return now
    model = ModelInfo.check(config)
    if not now.to_go:
        plans.append(plan_retry(config, store, model, plans[-1], held))
    return complete(config, store, model, plans, plans[-1], address)


def complete(
    config: RunConfig, store: Store, model: ModelInfo, plans: list[Plan], plan: Plan, address: str | None
) -> RowCounts:
    """What is missing of one plan, and then the sum of all."""
    try:
        work(config, store, model, plan, address)
        return add_up(plans, store)
    except StorageError as error:  # it could be read a moment ago
        raise IncompleteError(f"{error}; mend that and run the same command again") from error


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
    except (ConnectionError, ValueError, RuntimeError) as error:  # nobody there; no address; another version
        raise ConfigError(f"Ray at {address}: can't connect: {' '.join(str(error).split())}") from error


def work(config: RunConfig, store: Store, model: ModelInfo, plan: Plan, address: str | None) -> None:
    """All shards of one plan that are not committed yet, on Ray."""
    missing = sorted(set(plan.shards) - committed_shards(store))
    if not missing:
        log.info("every shard is committed already: nothing to do")
        return
    kernel_agreement.check(store)
    connect(address)
    if not config.cluster_can_grow:
        preflight.check(config, preflight.alive_nodes(ray.nodes()))
    board = Board.remote()  # type: ignore[attr-defined]  # ray.remote made it a factory
    rounds(plan, missing, store, Setup(config, plan, model.columns, model.commit, board))


def rounds(plan: Plan, missing: list[int], store: Store, setup: Setup) -> None:
    """Again and again what is missing, until nothing is or rounds neither commit nor find what stops them."""
    before = plan.num_rows - sum(plan.rows_in(shard) for shard in missing)
    tally, idle, blamed = Tally(plan.num_rows, rows_before=before), 0, 0
    with Reporter(tally, setup.board) as reporter:
        while missing:
            error = run_round(missing[:SHARDS_PER_ROUND], setup, tally)
            left = sorted(set(missing) - committed_shards(store))
            cause = first_line(error) if error else ""
            found = ray.get(setup.board.blamed.remote())
            idle = idle + 1 if (len(left), found) == (len(missing), blamed) else 0
            blamed = found
            if idle == IDLE_ROUNDS or (idle and any(name in cause for name in NON_RETRYABLE)):
                raise IncompleteError(
                    f"{len(left):,} of {plan.num_shards:,} shards are missing and nothing more gets committed: "
                    f"{cause}; mend that and run the same command again"
                ) from error
            if error:
                log.warning(f"round ended early ({cause}); {len(left):,} shards to go")
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
            if receipt["already_committed"] and not tally.already_committed:
                log.warning(ALREADY_COMMITTED.format(receipt["shard"]))
            tally.already_committed += receipt["already_committed"]
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


def add_up(plans: list[Plan], store: Store) -> RowCounts:
    """Every row in exactly one place, by the commits.

    Raises:
        IncompleteError: the sum is wrong.
    """
    now = count_rows(plans, commits(store))
    if now.to_go:
        again = "`barkery retry`" if plans[-1].generation else "the same command"
        raise IncompleteError(f"{now}: run {again} again")
    return now
