"""Ends an execution in which nothing moves: no shard between pools and no token in any of them.

Ray's own guard counts shards only. A shard of long texts may be in one stage for hours; ending it would lose that work
and count as a crash of its rows.
"""

import time
from typing import Any

import ray
from ray.data._internal.execution.execution_callback import ExecutionCallback

LOOK_EVERY_S = 10.0


def stall_guard(board: Any, timeout_s: float) -> type[ExecutionCallback]:
    """The class of a callback; Ray makes an instance for each execution."""

    class StallGuard(ExecutionCallback):
        """Compares the operators' outputs and the actors' reports with the last look; raises TimeoutError."""

        def __init__(self) -> None:
            self.last_change = self.last_look = time.monotonic()
            self.seen: Any = None

        def on_execution_step(self, executor: Any) -> None:
            now = time.monotonic()
            if now - self.last_look < min(LOOK_EVERY_S, timeout_s / 4):
                return
            self.last_look = now
            moved = [operator.metrics.num_outputs_taken for operator in executor._topology]
            totals = ray.get(board.totals.remote())
            work = {
                stage: (counts.rows, counts.tokens, counts.busy, counts.capacity) for stage, counts in totals.items()
            }
            if (moved, work) != self.seen:
                self.seen, self.last_change = (moved, work), now
            elif now - self.last_change > timeout_s:
                raise TimeoutError(f"no shard moved and no token was made for {timeout_s:g} s")

    return StallGuard
