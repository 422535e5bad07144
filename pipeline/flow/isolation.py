"""A row that kills its process fails alone.

The board remembers what was begun and never ended: a process died over it, or it hung until the round was stopped. A
shard with two such ends is served with nothing else in the process, one row at a time; the row over which that
ends badly twice more is failed, and the rest of its shard goes on. Rows sound the same either way. What was on a
machine that has gone is not held against it: spot machines go, and no row takes a machine with it.
"""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Set
from contextlib import asynccontextmanager
from typing import Any

from pipeline.errors import RowError

SUSPECT_AFTER = 2  # bad ends of a shard
FAIL_AFTER = 2  # bad ends of a row alone
AttemptKey = tuple[str, int, int]  # stage, shard, row; row -1: the whole shard
WHOLE = -1
ProcessRows = Callable[[dict[int, Any]], Awaitable[list[Any]]]  # rows of a shard by number -> what was made of them
OnRowFailed = Callable[[int, Any, RowError], list[Any]]  # a row's number, what it brought, its error -> the same


class AttemptTracker:
    """Where each piece of work was begun and not ended. Lives on the board, where no actor's death reaches it."""

    def __init__(self) -> None:
        self.nodes: defaultdict[AttemptKey, list[str]] = defaultdict(list)

    def begin(self, key: AttemptKey, node: str, at_most: int | None = None) -> int:
        """How often it has ended badly; below `at_most` it is noted as begun once more."""
        ended = len(self.nodes.get(key, []))
        if at_most is None or ended < at_most:
            self.nodes[key].append(node)
        return ended

    def end(self, key: AttemptKey) -> None:
        self.nodes.pop(key, None)

    def forget_lost_nodes(self, alive: Set[str]) -> None:
        """Forget what was begun on other nodes."""
        for nodes in self.nodes.values():
            nodes[:] = [node for node in nodes if node in alive]

    def blamed(self) -> int:
        """Rows that are known to end their process: it grows while a round without a commit has found one."""
        return sum(row != WHOLE and len(nodes) >= FAIL_AFTER for (_, _, row), nodes in self.nodes.items())


class SharedExclusiveLock:
    """Many at a time, or one alone. Who wants to be alone is not kept waiting by those who come after."""

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
    """Of one actor on one node. `board` is the handle of an actor with the methods of `AttemptTracker`."""

    def __init__(self, stage: str, board: Any, node: str):
        self.stage = stage
        self.board = board
        self.node = node
        self.gate = SharedExclusiveLock()

    async def serve(
        self, shard: int, rows: dict[int, Any], process_rows: ProcessRows, on_row_failed: OnRowFailed
    ) -> list[Any]:
        """`process_rows` of all rows of a shard; where the shard is suspected, of one after the other, and
        `on_row_failed` of a row that is to blame."""
        key = (self.stage, shard, WHOLE)
        async with self.gate.enter(exclusive=False):
            if await self.board.begin.remote(key, self.node, SUSPECT_AFTER) < SUSPECT_AFTER:
                made = await process_rows(rows)
                self.board.end.remote(key)
                return made
        async with self.gate.enter(exclusive=True):
            await self.board.begin.remote(key, self.node)
            made = [
                each for row in rows for each in await self._single(shard, row, rows[row], process_rows, on_row_failed)
            ]
            self.board.end.remote(key)
            return made

    async def _single(
        self, shard: int, row: int, given: Any, process_rows: ProcessRows, on_row_failed: OnRowFailed
    ) -> list[Any]:
        key = (self.stage, shard, row)
        if (ended := await self.board.begin.remote(key, self.node, FAIL_AFTER)) >= FAIL_AFTER:
            message = f"the process of the {self.stage} stage ended {ended} times with only this row in it; see its log"
            return on_row_failed(row, given, RowError("crash", message))
        made = await process_rows({row: given})
        self.board.end.remote(key)
        return made
