"""A thread that runs one stage for the rows of all shards in an actor.

The model does not run on the actor's event loop, where one step would block all shards in flight.
"""

import asyncio
import os
import queue
import threading
import time
from collections.abc import Callable
from typing import Any

from pipeline.bark.stage import Stage, Utterance
from pipeline.errors import RowError
from pipeline.log import log

Future = asyncio.Future[Any]


class Worker:
    """Runs one stage for many coroutines of one event loop. `compact` is applied to each output on the thread."""

    def __init__(self, stage: Stage, compact: Callable[[Any], Any]):
        self.stage = stage
        self.compact = compact
        self.busy_s = 0.0
        self._inbox: queue.SimpleQueue[tuple[Utterance, Any, Future]] = queue.SimpleQueue()
        self._finished: list[tuple[Future, Any]] = []
        threading.Thread(target=self._serve, daemon=True, name="stage").start()

    def run(self, utterance: Utterance, x: Any) -> Future:
        """The future of the compacted output of one utterance, or of its RowError. Call it from the event loop."""
        future = asyncio.get_running_loop().create_future()
        self._inbox.put((utterance, x, future))
        return future

    def _serve(self) -> None:
        try:
            while True:
                self._submit(self._inbox.get())  # idle: wait for the first one
                more = True
                while more:
                    self._submit_waiting()
                    start = time.perf_counter()
                    more = self.stage.step()
                    self.busy_s += time.perf_counter() - start
                    self._deliver()
        except BaseException:
            # A failure of the machine (out of memory, a lost GPU) or a bug: end this process, so that Ray starts a new
            # actor and runs its shards again. With an exception in this thread alone they would wait forever.
            log.exception("the stage failed: this process ends, and Ray runs its shards again")
            os._exit(1)

    def _submit_waiting(self) -> None:
        while True:
            try:
                self._submit(self._inbox.get_nowait())
            except queue.Empty:
                return

    def _submit(self, job: tuple[Utterance, Any, Future]) -> None:
        utterance, x, future = job

        def done(output: Any) -> None:
            self._finished.append((future, output if isinstance(output, RowError) else self.compact(output)))

        self.stage.submit(utterance, x, done)

    def _deliver(self) -> None:
        """Pass all outputs of a step to the event loop in one call: waking it costs more than its work then."""
        if self._finished:
            self._finished[0][0].get_loop().call_soon_threadsafe(set_results, self._finished)
            self._finished = []


def set_results(finished: list[tuple[Future, Any]]) -> None:
    for future, output in finished:
        if not future.cancelled():
            future.set_result(output)
