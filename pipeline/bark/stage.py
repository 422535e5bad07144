"""What a stage is, and how it is run to the end in one process."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import Any, Protocol

import numpy as np

from pipeline.bark.voice import HistoryPrompt
from pipeline.errors import ConfigError, RowError
from pipeline.spec import COARSE_WINDOW, MAX_COARSE_HISTORY, MAX_SEMANTIC_TOKENS, NUM_COARSE_CODEBOOKS

MAX_SEED = 2**63 - 1  # a seed is an int64 column


@dataclass(frozen=True)
class Sampling:
    """How tokens are drawn; the defaults are Suno's `generate_audio`. Temperature 0 is argmax.

    Raises:
        ConfigError: a value out of its range, naming it.
    """

    semantic_temperature: float = 0.7
    coarse_temperature: float = 0.7
    fine_temperature: float = 0.5
    top_k: int | None = None  # semantic and coarse: the k likeliest tokens only
    top_p: float | None = None  # semantic and coarse: the likeliest tokens up to this probability, before temperature
    min_eos_p: float | None = 0.2  # the semantic stage ends where P(EOS) reaches this
    allow_early_stop: bool = True  # False: always max_semantic_tokens
    max_semantic_tokens: int = MAX_SEMANTIC_TOKENS
    # Not Bark as published, but faster: coarse tokens made by one window (60) and seen by it (630). Each window that
    # slides costs a prompt, so wider windows and shorter histories save time and change what is said of the past.
    coarse_window: int = COARSE_WINDOW
    coarse_history: int = MAX_COARSE_HISTORY

    def __post_init__(self) -> None:
        for name in ("semantic_temperature", "coarse_temperature", "fine_temperature"):
            if not 0 <= getattr(self, name) <= 100:
                raise ConfigError(f"{name} must be from 0 (argmax) to 100, is {getattr(self, name)}")
        if self.top_k is not None and self.top_k < 1:
            raise ConfigError(f"top_k must be at least 1, is {self.top_k}")
        for name in ("top_p", "min_eos_p"):
            value = getattr(self, name)
            if value is not None and not 0 < value <= 1:
                raise ConfigError(f"{name} must be above 0 and at most 1, is {value}")
        if not 1 <= self.max_semantic_tokens <= MAX_SEMANTIC_TOKENS:
            raise ConfigError(f"max_semantic_tokens must be 1 to {MAX_SEMANTIC_TOKENS}, is {self.max_semantic_tokens}")
        for name in ("coarse_window", "coarse_history"):
            if getattr(self, name) < COARSE_WINDOW or getattr(self, name) % NUM_COARSE_CODEBOOKS:
                raise ConfigError(f"{name} must be even and at least {COARSE_WINDOW}, is {getattr(self, name)}")
        if self.coarse_window + self.coarse_history > COARSE_WINDOW + MAX_COARSE_HISTORY:
            most = COARSE_WINDOW + MAX_COARSE_HISTORY
            raise ConfigError(
                f"coarse_window and coarse_history must add up to at most {most}: there are no more places"
            )

    @classmethod
    def greedy(cls, **changes: Any) -> "Sampling":
        """Argmax in every stage; ends where EOS is the likeliest token, as in Suno's code with top_k=1."""
        zero = dict.fromkeys(("semantic_temperature", "coarse_temperature", "fine_temperature"), 0.0)
        return cls(**(zero | changes))

    def as_dict(self) -> dict[str, Any]:
        return dict(vars(self))


SAMPLING_FIELDS = tuple(field.name for field in fields(Sampling))


@dataclass(frozen=True)
class Utterance:
    """One Bark pass: what all stages need to know of it. `text_ids` are read by the semantic stage only."""

    seed: int
    sampling: Sampling
    voice: HistoryPrompt | None = None
    text_ids: np.ndarray | None = None  # (T,) int64, without offset, T <= 256


def is_good_slots(slots: int) -> bool:
    """1 to 4 or a multiple of 4: for other numbers of rows the matrix library computes the last rows in another
    order (measured, docs/log.md), and a row's low bits would depend on its slot."""
    return 1 <= slots <= 4 or (slots > 0 and slots % 4 == 0)


@dataclass(frozen=True)
class Stats:
    """Work done so far by one stage: `busy` slot-steps out of `capacity`; without slots, each call is one of one."""

    tokens: int = 0
    busy: int = 0
    capacity: int = 0


DoneCallback = Callable[[Any], None]  # called once with the stage's output or a RowError


class Stage(Protocol):
    """One of the four stages. `submit` queues an utterance with what the stage before made of it."""

    def submit(self, utterance: Utterance, x: Any, done: DoneCallback) -> None: ...

    def step(self) -> bool:
        """One unit of work, calling `done` for what it finished; False when nothing is left."""

    @property
    def stats(self) -> Stats: ...


def run(stage: Stage, utterances: Sequence[Utterance], inputs: Sequence[Any]) -> list[Any]:
    """All utterances through one stage, outputs in input order; a RowError passes through untouched."""
    outputs: list[Any] = list(inputs)

    def keep(index: int) -> DoneCallback:
        return lambda output: outputs.__setitem__(index, output)

    for i, (utterance, x) in enumerate(zip(utterances, inputs, strict=True)):
        if not isinstance(x, RowError):
            stage.submit(utterance, x, keep(i))
    while stage.step():
        pass
    return outputs
