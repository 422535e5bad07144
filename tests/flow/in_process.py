"""Runs the flow in the test's own process: the real driver and the real pool actors, without Ray's processes.

The actors load their stages and work on shards as on Ray. What only Ray can show is missing: processes that die and
start again, actors on other machines, scheduling. An exception in a stage's thread would end the test process.
"""

import asyncio
import gc
import threading
from collections.abc import Awaitable, Callable, Generator, Iterator
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pytest
import ray

from pipeline.flow import driver
from pipeline.flow.board import Board
from pipeline.flow.pool_actor import ActorSetup, PoolActor
from pipeline.schema import SHARD

NODE = "this process"


class Ready(Awaitable[Any]):
    """A result that is there already: stands for Ray's ObjectRef, for `await` and for `ray.get`."""

    def __init__(self, value: Any):
        self.value = value

    def __await__(self) -> Generator[Any, None, Any]:
        return self.value
        yield  # makes this a generator, as `await` needs


class LocalActor:
    """A handle like Ray's, whose `method.remote(...)` runs at once, one call at a time."""

    def __init__(self, instance: Any):
        self._instance = instance
        self._lock = threading.Lock()

    def __getattr__(self, name: str) -> Any:
        return SimpleNamespace(remote=lambda *args: self._call(getattr(self._instance, name), args))

    def _call(self, method: Callable[..., Any], args: tuple[Any, ...]) -> Ready:
        with self._lock:
            return Ready(method(*args))


def local_board() -> LocalActor:
    """The progress board as an object of this process."""
    return LocalActor(Board.__ray_metadata__.modified_class())


def receipts(shards: list[int], setup: ActorSetup) -> Iterator[dict[str, Any]]:
    """Same arguments and results as `pools.receipts`: one actor for each pool, all shards in flight at once."""

    async def all_shards() -> list[pa.Table]:
        actors = [PoolActor(setup, stage) for stage in setup.stages]

        async def one_shard(shard: int) -> pa.Table:
            batch = pa.Table.from_pylist([{"shard": shard}], schema=SHARD)
            for actor in actors:
                batch = await actor(batch)
            return batch

        return await asyncio.gather(*map(one_shard, shards))

    for table in asyncio.run(all_shards()):
        yield from table.to_pylist()


def replace_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make `driver.run` and `driver.retry` work in this process until `monkeypatch` ends."""
    node = {"NodeID": NODE, "Alive": True, "Resources": {"CPU": 16.0}}
    context = SimpleNamespace(get_node_id=lambda: NODE, get_actor_id=lambda: "an actor")
    monkeypatch.setattr(ray, "get", lambda ready, timeout=None: ready.value)
    monkeypatch.setattr(ray, "nodes", lambda: [node])
    monkeypatch.setattr(ray, "get_runtime_context", lambda: context)
    monkeypatch.setattr(driver, "connect", lambda address: None)
    monkeypatch.setattr(driver, "start_board", local_board)
    monkeypatch.setattr(driver, "receipts", receipts)
    monkeypatch.setattr(gc, "set_threshold", lambda *numbers: None)  # the actors' setting is for a process of their own
