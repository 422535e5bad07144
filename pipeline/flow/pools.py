"""A plan as a Ray Dataset of actor pools. All workarounds for Ray Data are in this file."""

import logging
import warnings
from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import ray
from ray.data import ActorPoolStrategy, DataContext, Dataset

from pipeline.bark.registry import StageSpec
from pipeline.flow.pool_actor import ActorSetup, PoolActor
from pipeline.flow.stall import stall_guard
from pipeline.schema import SHARD

# Retries of a shard whose actor died; after that the round ends and the driver plans what is missing. Enough for
# isolation.py to find some rows that kill their process; if every row does, the round ends without a commit, and the
# run with it.
MAX_TASK_RETRIES = 20


def receipts(shards: list[int], setup: ActorSetup) -> Iterator[dict[str, Any]]:
    """Run these shards through the pools; yields the receipt of each when it is committed, in any order."""
    dataset = build(shards, setup)
    for batch in dataset.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0):
        yield from batch.to_pylist()


def build(shards: list[int], setup: ActorSetup) -> Dataset:
    """One block is one row is one shard in all pools, so that Ray can neither merge nor split shards."""
    set_context(setup)
    # Blocks, not `read_parquet`: a read task fused in front of an async actor runs on its event loop and blocks
    # all shards in flight there (and hangs the job if it raises). An input of blocks has no read task.
    # `from_blocks`, not `from_arrow`, which runs a task for each table: a process more to start before the first actor.
    dataset = ray.data.from_blocks([pa.Table.from_pylist([{"shard": shard}], schema=SHARD) for shard in shards])
    for stage in setup.stages:
        dataset = add_pool(dataset, stage, setup)
    return dataset


def add_pool(dataset: Dataset, stage: StageSpec, setup: ActorSetup) -> Dataset:
    """Add one operator: Ray Data never fuses actor pools with each other."""
    pool = setup.config.pools[stage.name]
    size: dict[str, Any]
    if isinstance(pool.actors, int):
        size = {"size": pool.actors}
    else:
        size = {"min_size": pool.actors.min, "max_size": pool.actors.max}
    return dataset.map_batches(
        type(stage.name.capitalize(), (PoolActor,), {}),  # Ray names the actors' processes after the class
        batch_size=1,  # the one shard of a block; GPU pools require a number
        batch_format="pyarrow",
        udf_modifying_row_count=False,
        compute=ActorPoolStrategy(
            **size,
            max_concurrent_calls_per_actor=pool.shards_in_flight,
            # below 1.75 times the calls an autoscaling pool never grows
            max_tasks_in_flight_per_actor=2 * pool.shards_in_flight,
        ),
        num_cpus=pool.num_cpus,
        num_gpus=pool.num_gpus or None,
        fn_constructor_kwargs={"setup": setup, "stage": stage},
        # Ray's default is to retry forever, and a row that kills its process would make it do so. No other way to set
        # this in 2.60; removed in 2.64.
        max_task_retries=MAX_TASK_RETRIES,
    )


def set_context(setup: ActorSetup) -> None:
    """Set Ray Data's process-wide settings."""
    warnings.filterwarnings("ignore", "`ray_remote_args` is deprecated", DeprecationWarning)
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    context = DataContext.get_current()
    context.enable_progress_bars = False  # progress.py counts rows and audio, not blocks
    context.print_on_execution_start = False
    # Ray waits forever for lost actors that can't be placed again. Instead, stall.py ends an execution in which nothing
    # moves, and the driver starts the missing shards again.
    context.execution_no_progress_timeout_s = -1
    context.custom_execution_callback_classes = [stall_guard(setup.board, setup.config.stall_timeout_s)]
    # A block that fails must not be dropped: it is a whole shard. It ends the round, and the next round runs it again.
    context.max_errored_blocks = 0
    context.actor_init_retry_on_errors = [OSError, ConnectionError]  # while weights are downloaded
    context.actor_init_max_retries = 2
