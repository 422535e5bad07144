"""Ends an execution in which nothing moves: neither a shard between pools nor a token in one.

Ray's own guard counts shards only. A shard of long texts may be hours in one stage, and ending it would lose that work
and blame its rows.
"""

import time
from typing import Any

import ray
from ray.data._internal.execution.execution_callback import ExecutionCallback

ASK_EVERY_S = 10.0


def stall_guard(board: Any, timeout_s: float) -> type[ExecutionCallback]:
    """A class, because Ray makes the instance, one for each execution."""

    class StallGuard(ExecutionCallback):
        """Looks at what the operators have given and what the actors report, and raises TimeoutError."""

        def __init__(self) -> None:
            self.since = self.asked = time.monotonic()
            self.seen: Any = None

        def on_execution_step(self, executor: Any) -> None:
            now = time.monotonic()
            if now - self.asked < min(ASK_EVERY_S, timeout_s / 4):
                return
            self.asked = now
            moved = [operator.metrics.num_outputs_taken for operator in executor._topology]
            made = {stage: counts[:4] for stage, (_, counts) in ray.get(board.totals.remote()).items()}
            if (moved, made) != self.seen:
                self.seen, self.since = (moved, made), now
            elif now - self.since > timeout_s:
                raise TimeoutError(f"no shard moved and no token was made for {timeout_s:g} s")

    return StallGuard
