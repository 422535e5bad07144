"""Runs one function on many items in Ray tasks: the way in which jobs over a finished output use the cluster."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

import ray
from ray.exceptions import RayError, RayTaskError

from pipeline.errors import BarkeryError, IncompleteError, StorageError
from pipeline.flow.cluster import connect
from pipeline.log import LogFormat, configure, log_format

T = TypeVar("T")
R = TypeVar("R")
TASKS_PER_CPU = 2  # in flight: one runs, and one waits


def run_tasks(
    function: Callable[[T], R],
    items: Sequence[T],
    *,
    address: str | None = None,
    on_ray: bool = True,
    num_cpus: float = 1,
    num_gpus: float = 0,
) -> Iterator[R]:
    """Yield `function(item)` for all items, in any order, with a bounded number of them in flight.

    A task whose process or node dies is run again by Ray, so `function` must be repeatable.

    Args:
        function: picklable; of a module, or a partial of one.
        address: of a Ray cluster; as in `cluster.connect`.
        num_cpus, num_gpus: of each task.
        on_ray: False runs the items in turn in this process, for work that takes less time than to start Ray.

    Raises:
        IncompleteError: storage failed, or tasks die each time; what is done is kept, and a new call can go on.
        BarkeryError: as `function` raised it.
    """
    try:
        yield from run_on_ray(function, items, address, num_cpus, num_gpus) if on_ray else map(function, items)
    except StorageError as error:
        raise IncompleteError(f"{error}; fix that and run the same command again") from error


def run_on_ray(
    function: Callable[[T], R], items: Sequence[T], address: str | None, num_cpus: float, num_gpus: float
) -> Iterator[R]:
    connect(address)
    task: Any = ray.remote(num_cpus=num_cpus, num_gpus=num_gpus)(in_worker)
    stored = ray.put(function)
    limit = max(2, TASKS_PER_CPU * int(ray.cluster_resources().get("CPU", 1)))
    waiting: list[Any] = []
    left = iter(items)
    try:
        while True:
            for item in left:
                waiting.append(task.remote(stored, item, log_format()))
                if len(waiting) >= limit:
                    break
            if not waiting:
                return
            (ready,), waiting = ray.wait(waiting, num_returns=1)
            yield ray.get(ready)
    except RayTaskError as error:
        if isinstance(error.cause, BarkeryError):
            raise error.cause from error
        raise
    except RayError as error:
        reason = " ".join(str(error).split())[:300]
        raise IncompleteError(
            f"a task was lost each time it was tried: {reason}; run the same command again"
        ) from error
    finally:
        for ref in waiting:
            ray.cancel(ref)


def in_worker(function: Callable[[T], R], item: T, log_format: LogFormat) -> R:
    configure(log_format)
    return function(item)
