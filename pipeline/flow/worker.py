"""A thread that keeps one stage busy with whatever rows of whatever shards are there.

The model runs here and not on the actor's event loop, where one step would freeze every shard in flight.
"""

import asyncio
import os
import queue
import sys
import threading
import time
import traceback
from collections.abc import Callable
from typing import Any

from pipeline.bark.stage import Stage, Utterance
from pipeline.errors import RowError

Future = asyncio.Future[Any]


class Worker:
    """Serves one stage to many coroutines of one event loop. `keep` makes of an output what is kept of it."""

    def __init__(self, stage: Stage, keep: Callable[[Any], Any] = lambda output: output):
        self.stage = stage
        self.keep = keep
        self.busy_s = 0.0
        self._inbox: queue.SimpleQueue[tuple[Utterance, Any, Future]] = queue.SimpleQueue()
        self._made: list[tuple[Future, Any]] = []
        threading.Thread(target=self._serve, daemon=True, name="stage").start()

    def run(self, utterance: Utterance, x: Any) -> Future:
        """What is kept of the stage's output for one utterance, or a RowError; called from the event loop."""
        future = asyncio.get_running_loop().create_future()
        self._inbox.put((utterance, x, future))
        return future

    def _serve(self) -> None:
        try:
            while True:
                self._take(self._inbox.get())  # idle: wait for the first one
                more = True
                while more:
                    self._take_waiting()
                    start = time.perf_counter()
                    more = self.stage.step()
                    self.busy_s += time.perf_counter() - start
                    self._hand_over()
        except BaseException:
            # The machine went wrong (out of memory, a lost GPU, a bug): end this process, so that Ray starts a new
            # actor and runs its shards again. An exception in a thread would leave them waiting for ever.
            traceback.print_exc()
            sys.stderr.flush()
            os._exit(1)

    def _take_waiting(self) -> None:
        while True:
            try:
                self._take(self._inbox.get_nowait())
            except queue.Empty:
                return

    def _take(self, job: tuple[Utterance, Any, Future]) -> None:
        utterance, x, future = job

        def done(output: Any) -> None:
            self._made.append((future, output if isinstance(output, RowError) else self.keep(output)))

        self.stage.submit(utterance, x, done)

    def _hand_over(self) -> None:
        """All that a step has finished, in one call: to wake another thread costs more than what it then does."""
        if self._made:
            self._made[0][0].get_loop().call_soon_threadsafe(settle, self._made)
            self._made = []


def settle(made: list[tuple[Future, Any]]) -> None:
    for future, output in made:
        if not future.cancelled():
            future.set_result(output)
