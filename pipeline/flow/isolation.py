"""A row that kills its process fails alone.

The board counts attempts that began and never ended: their process died, or they hung until the round was stopped.
After two such attempts a shard is processed alone in its process, one row at a time. A row with two such attempts of
its own is recorded as failed, and the rest of its shard goes on. The sounds are the same either way. Attempts on a lost
node do not count: spot machines are taken away, and no row takes a machine down.
"""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Set
from contextlib import asynccontextmanager
from typing import Any

from pipeline.errors import RowError

SUSPECT_AFTER = 2  # unended attempts of a shard
FAIL_AFTER = 2  # unended attempts of a row alone
AttemptKey = tuple[str, int, int]  # stage, shard, row; row -1: the whole shard
WHOLE = -1
ProcessRows = Callable[[dict[int, Any]], Awaitable[list[Any]]]  # rows of a shard by number -> their outputs
OnRowFailed = Callable[[int, Any, RowError], list[Any]]  # a row's number, the row, its error -> its outputs


class AttemptTracker:
    """Attempts that began and have not ended, each with its node. Part of the board, which survives dying actors."""

    def __init__(self) -> None:
        self.nodes: defaultdict[AttemptKey, list[str]] = defaultdict(list)

    def begin(self, key: AttemptKey, node: str, at_most: int | None = None) -> int:
        """The number of unended attempts before; if that is below `at_most`, a new attempt is recorded."""
        unended = len(self.nodes.get(key, []))
        if at_most is None or unended < at_most:
            self.nodes[key].append(node)
        return unended

    def end(self, key: AttemptKey) -> None:
        self.nodes.pop(key, None)

    def forget_lost_nodes(self, alive: Set[str]) -> None:
        """Forget the attempts on all other nodes."""
        for nodes in self.nodes.values():
            nodes[:] = [node for node in nodes if node in alive]

    def rows_that_crash(self) -> int:
        """Rows that are known to end their process. A round without a commit that finds one has made progress."""
        return sum(row != WHOLE and len(nodes) >= FAIL_AFTER for (_, _, row), nodes in self.nodes.items())


class SharedExclusiveLock:
    """Admits many at a time, or one alone. Later arrivals do not delay one that waits to be alone."""

    def __init__(self) -> None:
        self.inside = 0
        self.exclusive = 0  # inside or waiting
        self.changed = asyncio.Condition()

    @asynccontextmanager
    async def enter(self, exclusive: bool) -> AsyncIterator[None]:
        async with self.changed:
            if exclusive:
                self.exclusive += 1
                await self.changed.wait_for(lambda: self.inside == 0)
            else:
                await self.changed.wait_for(lambda: self.exclusive == 0)
            self.inside += 1
        try:
            yield
        finally:
            async with self.changed:
                self.inside -= 1
                self.exclusive -= exclusive
                self.changed.notify_all()


class Isolation:
    """Counts the attempts of one actor. `board` is the handle of an actor with the methods of `AttemptTracker`."""

    def __init__(self, stage: str, board: Any, node: str):
        self.stage = stage
        self.board = board
        self.node = node
        self.lock = SharedExclusiveLock()

    async def serve(
        self, shard: int, rows: dict[int, Any], process_rows: ProcessRows, on_row_failed: OnRowFailed
    ) -> list[Any]:
        """The outputs of a shard's rows: all rows at once, or one after the other if the shard is suspected.

        Args:
            process_rows: called with the rows to process together.
            on_row_failed: called instead for a row that ended its process too often.
        """
        key = (self.stage, shard, WHOLE)
        async with self.lock.enter(exclusive=False):
            if await self.board.begin.remote(key, self.node, SUSPECT_AFTER) < SUSPECT_AFTER:
                outputs = await process_rows(rows)
                self.board.end.remote(key)
                return outputs
        async with self.lock.enter(exclusive=True):
            await self.board.begin.remote(key, self.node)
            outputs = []
            for row in rows:
                outputs += await self._process_alone(shard, row, rows[row], process_rows, on_row_failed)
            self.board.end.remote(key)
            return outputs

    async def _process_alone(
        self, shard: int, row: int, source: Any, process_rows: ProcessRows, on_row_failed: OnRowFailed
    ) -> list[Any]:
        key = (self.stage, shard, row)
        if (count := await self.board.begin.remote(key, self.node, FAIL_AFTER)) >= FAIL_AFTER:
            message = f"the process of the {self.stage} stage ended {count} times with only this row in it; see its log"
            return on_row_failed(row, source, RowError("crash", message))
        outputs = await process_rows({row: source})
        self.board.end.remote(key)
        return outputs
