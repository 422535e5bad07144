"""The plan as a Ray Dataset of four actor pools. All of Ray Data's traps are settled on this page."""

import logging
import warnings
from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import ray
from ray.data import ActorPoolStrategy, DataContext, Dataset

from pipeline.config import PoolConfig
from pipeline.flow.actors import POOLS, Setup
from pipeline.flow.stall import stall_guard
from pipeline.schema import SHARD

# Of a shard whose actor died; then the round ends and the driver plans what is missing. Enough for isolation.py to find
# some rows that kill their process; where every row does, the round ends without a commit, and the run with it.
MAX_TASK_RETRIES = 20


def receipts(shards: list[int], setup: Setup) -> Iterator[dict[str, Any]]:
    """Run these shards through the pools; one receipt for each, as it is committed, in any order."""
    dataset = build(shards, setup)
    for batch in dataset.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0):
        yield from batch.to_pylist()


def build(shards: list[int], setup: Setup) -> Dataset:
    """One block is one row is one shard, all the way: Ray can neither merge nor split shards."""
    set_context(setup)
    # Blocks, not `read_parquet`: a read task fused in front of an async actor runs on its event loop and freezes
    # every shard in flight there (and hangs the job if it raises). An input of blocks has no read task at all.
    dataset = ray.data.from_arrow([pa.Table.from_pylist([{"shard": shard}], schema=SHARD) for shard in shards])
    for name, actor in POOLS.items():
        dataset = add_pool(dataset, actor, setup.config.pools[name], setup)
    return dataset


def add_pool(dataset: Dataset, actor: type, pool: PoolConfig, setup: Setup) -> Dataset:
    """Actor pools are never fused with each other, so each is an operator of its own."""
    size: dict[str, Any]
    if isinstance(pool.actors, int):
        size = {"size": pool.actors}
    else:
        size = {"min_size": pool.actors.min, "max_size": pool.actors.max}
    return dataset.map_batches(
        actor,
        batch_size=1,  # the one shard of a block; GPU pools insist on a number
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
        fn_constructor_kwargs={"setup": setup},
        # Ray's default is to retry for ever, which a row that kills its process would use. No other way to say this
        # in 2.60; gone in 2.64.
        max_task_retries=MAX_TASK_RETRIES,
    )


def set_context(setup: Setup) -> None:
    """Ray Data's process-wide knobs, all of them."""
    warnings.filterwarnings("ignore", "`ray_remote_args` is deprecated", DeprecationWarning)
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    context = DataContext.get_current()
    context.enable_progress_bars = False  # ours count rows and audio, not blocks
    context.print_on_execution_start = False
    # Lost actors that can't be placed again make Ray wait for ever: when nothing has moved for so long, end the
    # execution, and the driver starts what is missing anew.
    context.execution_no_progress_timeout_s = -1
    context.custom_execution_callback_classes = [stall_guard(setup.board, setup.config.stall_timeout_s)]
    # A block that fails must not be dropped: it is a whole shard. It ends the round, which is then planned again.
    context.max_errored_blocks = 0
    context.actor_init_retry_on_errors = [OSError, ConnectionError]  # while weights are fetched
    context.actor_init_max_retries = 2
