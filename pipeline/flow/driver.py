"""A run: check, plan, run all shards through the pools until they are committed, count the rows.

Failed rounds recover like a resume: list the commits, run the missing shards.
"""

import re
import time

import ray
from ray.exceptions import RayError

from pipeline.config import RunConfig
from pipeline.dataset.output_card import write_final_card
from pipeline.errors import ConfigError, IncompleteError, StorageError
from pipeline.flow import kernel_agreement, preflight
from pipeline.flow.cluster import connect, start_board
from pipeline.flow.counts import RunCounts
from pipeline.flow.live_card import LiveCard
from pipeline.flow.planning import (
    ModelInfo,
    absolute,
    plan_manifest,
    plan_next_attempt,
    plan_retry,
    refuse_too_many,
    settings_of_retry,
)
from pipeline.flow.pool_actor import ActorSetup
from pipeline.flow.pools import receipts
from pipeline.flow.progress import Reporter
from pipeline.log import log, log_format
from pipeline.quality.probe import Limits, make_limits, probe_shards, probed_shards, read_limits
from pipeline.shards.environment import EnvironmentWatch
from pipeline.shards.generations import chains
from pipeline.shards.plan import Plan, plans_of
from pipeline.shards.reader import RowCounts, commits, committed_shards, count_rows
from pipeline.storage.store import Store

IDLE_ROUNDS = 5  # in a row with neither a commit nor a new row that crashes: to find such a row can take 4 rounds
NON_RETRYABLE = (StorageError.__name__, ConfigError.__name__)  # errors that a retry cannot fix
ALREADY_COMMITTED = (
    "shard {} was already committed when this run finished it: another run is writing to this output, or a process "
    "died after its commit. No row is lost or written twice. If there are two runs, one can be stopped."
)
SHARDS_PER_ROUND = 10_000  # bounds the driver's memory for any size of manifest


def run(config: RunConfig, address: str | None = None, budget_hours: float | None = None) -> RowCounts:
    """Run a config until its output is complete.

    Args:
        budget_hours: stop after so many hours of wall time, with what is committed then; None is no limit.

    Raises:
        ConfigError: the run can't start as asked; nothing was started.
        IncompleteError: the run stopped with rows missing; the same command resumes it.
    """
    deadline = None if budget_hours is None else time.monotonic() + 3600 * budget_hours
    config = absolute(config)
    store = Store(config.output, config.storage_options)
    model = ModelInfo.check(config)
    plans = plan_manifest(config, store, model)
    return run_and_count(config, store, model, plans, chains(plans)[0], address, deadline)


def retry(store: Store, seed: int | None, changes: list[str], address: str | None = None) -> RowCounts:
    """Run the failed rows again, with another seed and changed settings. The earlier failures stay on record.

    Raises:
        ConfigError, IncompleteError: as `run`.
    """
    plans, committed = plans_of(store), commits(store)
    now = count_rows(plans, committed)
    config = absolute(settings_of_retry(store, plans, now, seed, changes))
    if not (now.to_go or now.failed):
        log.info("no failed rows: nothing to do")
        return now
    model = ModelInfo.check(config)
    if not now.to_go:
        plans.append(plan_retry(config, store, model, plans, committed, now.failed))
    return run_and_count(config, store, model, plans, chains(plans)[-1], address)


def run_and_count(
    config: RunConfig,
    store: Store,
    model: ModelInfo,
    plans: list[Plan],
    chain: list[Plan],
    address: str | None,
    deadline: float | None = None,
) -> RowCounts:
    """Run the missing shards of a run or a retry and of its attempts, then count the rows of all plans."""
    try:
        limits = relative_limits(config, store, model, plans[0], address, deadline)
        for plan in chain:
            run_plan(config, store, model, plans[: plan.generation + 1], address, deadline, limits)
        while chain[-1] is plans[-1] and (following := plan_next_attempt(config, store, plans, commits(store))):
            plans.append(following)
            chain = [following]
            run_plan(config, store, model, plans, address, deadline, limits)
        counts = count_all_rows(plans, store)
        write_final_card(store, plans, commits(store))
        return counts
    except StorageError as error:  # the storage worked when the run began
        raise IncompleteError(f"{error}; fix that and run the same command again") from error


def relative_limits(
    config: RunConfig, store: Store, model: ModelInfo, plan: Plan, address: str | None, deadline: float | None
) -> Limits | None:
    """The limits that follow from the run's first rows, which are spoken for them first; None if none does."""
    if not config.quality.needs_probe:
        return None
    if limits := read_limits(store):
        return limits
    log.info("the first rows are spoken to find the quality gate's relative limits")
    run_plan(config, store, model, [plan], address, deadline, is_probe=True)
    return make_limits(store, probe_shards(plan, config.quality.probe_rows))


def run_plan(
    config: RunConfig,
    store: Store,
    model: ModelInfo,
    plans: list[Plan],
    address: str | None,
    deadline: float | None,
    limits: Limits | None = None,
    is_probe: bool = False,
) -> None:
    """Run all shards of the last of these plans that are not done yet, on Ray.

    Args:
        limits: of the quality gate, by the run's probe.
        is_probe: only measure the first rows.
    """
    plan = plans[-1]
    shards_to_do = probe_shards(plan, config.quality.probe_rows) if is_probe else plan.shards
    missing = sorted(set(shards_to_do) - done_shards(store, is_probe))
    if not missing:
        log.info(f"every shard{of_attempt(plan)} is committed already: nothing to do")
        return
    kernel_agreement.check(store)
    rows = sum(plan.rows_in(shard) for shard in missing)
    shards = f"{len(missing):,} shard{'s' if len(missing) > 1 else ''}"
    log.info(f"{rows:,} of {plan.num_rows:,} rows to do{of_attempt(plan)}, in {shards}")
    connect(address)
    if not config.cluster_can_grow:
        preflight.check(config, preflight.alive_nodes(ray.nodes()))
    what = (config, plan, model.columns, model.commit, config.stages)
    setup = ActorSetup(*what, start_board(), log_format(), limits, is_probe)
    run_rounds(plans, missing, store, setup, deadline)


def done_shards(store: Store, is_probe: bool) -> set[int]:
    return probed_shards(store) if is_probe else committed_shards(store)


def of_attempt(plan: Plan) -> str:
    """Which attempt a plan is, for messages; nothing for the first."""
    if plan.remakes:
        return " (the best attempts, made again)"
    return f" (attempt {plan.attempt + 1}, of what was rejected)" if plan.attempt else ""


def run_rounds(
    plans: list[Plan], missing: list[int], store: Store, setup: ActorSetup, deadline: float | None = None
) -> None:
    """Run the missing shards of the last plan, in rounds, until none is missing.

    Raises:
        IncompleteError: rounds neither commit a shard nor find a row that crashes, or an error that a retry can't fix.
    """
    plan = plans[-1]
    to_do = sum(plan.rows_in(shard) for shard in missing)
    num_rows = to_do if setup.is_probe else plan.num_rows
    counts, idle, crashing = RunCounts(num_rows, rows_before=num_rows - to_do, deadline=deadline), 0, 0
    counts.environments = EnvironmentWatch(store)
    if not (plan.generation or setup.is_probe):  # the first plan has all rows
        counts.card = LiveCard(store, plan)
    with Reporter(counts, setup) as reporter:
        while missing:
            error = run_round(missing[:SHARDS_PER_ROUND], setup, counts, plans)
            left = sorted(set(missing) - done_shards(store, setup.is_probe))
            cause = first_line(error) if error else ""
            crashing_before, crashing = crashing, ray.get(setup.board.rows_that_crash.remote())
            idle = idle + 1 if (len(left), crashing) == (len(missing), crashing_before) else 0
            if idle == IDLE_ROUNDS or (idle and any(name in cause for name in NON_RETRYABLE)):
                raise IncompleteError(
                    f"{len(left):,} of {plan.num_shards:,} shards are missing and nothing more gets committed: "
                    f"{cause}; fix that and run the same command again"
                ) from error
            if error:
                log.warning(f"round ended early ({cause}); {len(left):,} shards to go")
            missing = left
    reporter.finish()


def run_round(shards: list[int], setup: ActorSetup, counts: RunCounts, plans: list[Plan]) -> Exception | None:
    """Run these shards once; returns the error that ended the round early, if any.

    Raises:
        IncompleteError: the quality gate rejects too many rows.
    """
    attempts_follow = plans[-1].attempt + 1 < setup.config.quality.attempts
    try:
        for receipt in receipts(shards, setup):
            counts.written += receipt["written"]
            counts.failed += receipt["failed"]
            counts.rejected += receipt["rejected"]
            counts.kept += receipt["kept"]
            counts.num_samples += receipt["num_samples"]
            if counts.card:
                counts.card.add(receipt["written"], receipt["failed"], receipt["num_samples"])
            if counts.is_over_budget and counts.rows_done < counts.num_rows:
                raise IncompleteError(
                    f"the budget of hours is spent: {counts.num_rows - counts.rows_done:,} rows are to go; run the "
                    "same command again to go on"
                )
            if receipt["rejected"] and attempts_follow:
                refuse_too_many(setup.config, plans, counts.rejected)
            if receipt["already_committed"] and not counts.already_committed:
                log.warning(ALREADY_COMMITTED.format(receipt["shard"]))
            counts.already_committed += receipt["already_committed"]
            if counts.environments and (warning := counts.environments.warning(dict(receipt["environments"]))):
                log.warning(warning)
    except (RayError, TimeoutError) as error:
        return error
    return None


def first_line(error: Exception) -> str:
    """The cause of a failed task in one line: the last line of Ray's message that names an exception, preferably
    one that is not Ray's own."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    named = [line for line in lines if re.match(r"[\w.]*(Error|Exception)\b.*: ", line)]
    causes = [line for line in named if not line.startswith("ray.")] or named
    return (causes or lines[:1] or [type(error).__name__])[-1]


def count_all_rows(plans: list[Plan], store: Store) -> RowCounts:
    """Count written and failed rows by the commits.

    Raises:
        IncompleteError: they are not all rows.
    """
    now = count_rows(plans, commits(store))
    if now.to_go:
        again = "`barkery retry`" if chains(plans)[-1][0].generation else "the same command"
        raise IncompleteError(f"{now}: run {again} again")
    return now
