"""The interface of a stage, and how to run one to its end in one process."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from pipeline.errors import RowError
from pipeline.sampling import Sampling

if TYPE_CHECKING:
    from pipeline.bark.voice import HistoryPrompt
    from pipeline.quality.tokens import TokenGate


@dataclass(frozen=True)
class Utterance:
    """The inputs of one Bark pass that all stages share. Only the semantic stage reads `text_ids`."""

    seed: int
    sampling: Sampling
    voice: "HistoryPrompt | None" = None
    text_ids: np.ndarray | None = None  # (T,) int64, T <= 256, without the offset of the text vocabulary
    gate: "TokenGate | None" = None  # how many draws of semantic tokens there may be, and which one goes on


def is_good_slots(slots: int) -> bool:
    """Whether a row's numbers are the same in every slot: true for 1 to 4 slots and for multiples of 4.

    For other numbers of rows the matrix library computes the last rows in another order (measured, docs/log.md).
    """
    return 1 <= slots <= 4 or (slots > 0 and slots % 4 == 0)


@dataclass(frozen=True)
class Stats:
    """Work done so far by one stage: `busy` slot-steps out of `capacity`. Without slots, each call counts 1 of 1."""

    tokens: int = 0
    busy: int = 0
    capacity: int = 0
    partial: float = 0.0  # unfinished utterances, each counted as the share of its expected tokens, for progress only


DoneCallback = Callable[[Any], None]  # called once with the stage's output or a RowError


class Stage(Protocol):
    """One of the four stages. `submit` queues an utterance with the output of the stage before."""

    def submit(self, utterance: Utterance, x: Any, done: DoneCallback) -> None: ...

    def step(self) -> bool:
        """Do one unit of work and call `done` for each finished utterance; False when nothing is left."""

    @property
    def stats(self) -> Stats: ...


def run(stage: Stage, utterances: Sequence[Utterance], inputs: Sequence[Any]) -> list[Any]:
    """Run all utterances through one stage; outputs in input order. A RowError is returned as it is."""
    outputs: list[Any] = list(inputs)

    def store(index: int) -> DoneCallback:
        return lambda output: outputs.__setitem__(index, output)

    for i, (utterance, x) in enumerate(zip(utterances, inputs, strict=True)):
        if not isinstance(x, RowError):
            stage.submit(utterance, x, store(i))
    while stage.step():
        pass
    return outputs
