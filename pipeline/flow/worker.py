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
from typing import Any

from pipeline.bark.stage import Stage, Utterance

Job = tuple[Utterance, Any, asyncio.AbstractEventLoop, asyncio.Future[Any]]


class Worker:
    """Serves one stage to many coroutines."""

    def __init__(self, stage: Stage):
        self.stage = stage
        self.busy_s = 0.0
        self._inbox: queue.SimpleQueue[Job] = queue.SimpleQueue()
        threading.Thread(target=self._serve, daemon=True, name="stage").start()

    async def run(self, utterance: Utterance, x: Any) -> Any:
        """The stage's output for one utterance, or a RowError."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Any] = loop.create_future()
        self._inbox.put((utterance, x, loop, future))
        return await future

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

    def _take(self, job: Job) -> None:
        utterance, x, loop, future = job

        def done(output: Any) -> None:
            loop.call_soon_threadsafe(settle, future, output)

        self.stage.submit(utterance, x, done)


def settle(future: asyncio.Future[Any], output: Any) -> None:
    if not future.cancelled():
        future.set_result(output)
