"""Continuous batching over a fixed set of slots: schedule, run, postprocess.

The engine works on requests of token ids and knows nothing of text, audio or Ray. Its arguments are the model and the
cache. An utterance is a generation task: a generator that yields requests, receives the results, and returns its
output. A free slot goes to the next request at once, whichever utterance it belongs to.
"""

import heapq
import sys
from collections import Counter
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from itertools import count
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from pipeline.engine.kv_cache import KVCache
from pipeline.engine.sampling import SamplingParams, sample
from pipeline.engine.step import CausalModel, make_step
from pipeline.errors import RowError


@dataclass(frozen=True)
class DecodeRequest:
    """One prefill and up to `num_steps` tokens.

    `prompt` None continues where the task's last request ended, in the same slot and with its cache. Step n samples
    from the id range `ranges[(first_step + n) % len(ranges)]`, with the random numbers of step `first_step + n`.
    """

    prompt: np.ndarray | None  # (P,) int64
    num_steps: int
    ranges: tuple[tuple[int, int], ...]
    params: SamplingParams
    first_step: int = 0


@dataclass(frozen=True)
class DecodeResult:
    """Token ids without EOS, and why they end: `eos`, `eos_p` or `length`."""

    tokens: list[int]
    stop: str


GenerationTask = Generator[DecodeRequest, DecodeResult, Any]
DoneCallback = Callable[[Any], None]  # called with the task's output or a RowError


@dataclass
class Sequence:
    """A task in progress: its current request and, while it has a slot, its position."""

    task: GenerationTask
    done: DoneCallback
    request: DecodeRequest
    rank: tuple[int, int]  # of the waiting sequences the lowest rank is next
    expected: int  # tokens of all requests together, or an estimate
    generated: int = 0  # tokens of the requests before the current one
    tokens: list[int] = field(default_factory=list)  # of the current request
    last_token: int = 0  # sampled, not yet an input
    position: int = 0  # of last_token in the cache


class Engine:
    """Call `submit` for each task, then `step` until it returns False."""

    def __init__(self, model: CausalModel, cache: KVCache, device: torch.device):
        self.model = model
        self.cache = cache
        self.device = device
        self.decode = make_step(model, cache, device)
        self.waiting: list[tuple[tuple[int, int], Sequence]] = []  # a heap
        self._arrivals = count()
        self.slots: list[Sequence | None] = [None] * cache.slots
        self.steps = 0  # decode steps run
        self.busy_slot_steps = 0  # of all steps x slots, those with a busy slot
        self.tokens = 0  # tokens sampled
        self.positions_read = 0  # cache positions that the decode steps have read
        self.prompts: Counter[int] = Counter()  # prefills by their number of positions

    def submit(self, task: GenerationTask, done: DoneCallback, length: int = 0) -> None:
        """Queue a task; `done` is called once, from within `step`.

        The longest task starts first, so that no slot works alone at the end. `length` is its number of tokens, or
        any estimate that grows with it. Tasks of equal length start in the order of arrival.
        """
        rank = (-length, next(self._arrivals))
        sequence = Sequence(task, done, DecodeRequest(None, 0, (), SamplingParams((0, 0), 0)), rank, expected=length)
        self._advance(sequence, None)

    @property
    def partial(self) -> float:
        """Sequences in slots, each counted as the share of its expected tokens that it has. Any thread may ask."""
        active = [sequence for sequence in list(self.slots) if sequence and sequence.expected]
        return sum(min(1.0, (s.generated + len(s.tokens)) / s.expected) for s in active)

    @torch.inference_mode()
    def step(self) -> bool:
        """Fill free slots, then generate one token in every busy slot. False when nothing is left to do."""
        self._schedule()
        busy = [slot for slot, sequence in enumerate(self.slots) if sequence]
        if busy:
            self._postprocess(busy, self._run(busy))
        if self.waiting or any(self.slots):
            return True
        self.cache.release()
        return False

    def _schedule(self) -> None:
        """Give each free slot to the next request and prefill its prompt, whose logits give its first token."""
        for slot in range(len(self.slots)):
            while self.waiting and self.slots[slot] is None:
                _, sequence = heapq.heappop(self.waiting)
                ids = torch.as_tensor(sequence.request.prompt, dtype=torch.int64, device=self.device)
                self.slots[slot] = sequence
                sequence.position = len(ids) - self.model.merged_len
                self.prompts[sequence.position] += 1
                self._postprocess([slot], self.model.prefill(ids, self.cache, slot))

    def _run(self, busy: list[int]) -> Tensor:
        """Run one decode step on every busy slot's last token -> logits (busy, V)."""
        tokens, positions = ([0] * len(self.slots) for _ in range(2))  # an idle slot is at position 0
        for slot in busy:
            sequence = self.slots[slot]
            assert sequence is not None
            tokens[slot], positions[slot] = sequence.last_token, sequence.position
            sequence.position += 1
            self.positions_read += sequence.position
        self.steps += 1
        self.busy_slot_steps += len(busy)
        return self.decode(tokens, positions)[busy]

    def _postprocess(self, slots: list[int], logits: Tensor) -> None:
        """Sample a token for each row of logits (len(slots), V), and advance the tasks whose request is complete."""
        sequences = [self.slots[slot] for slot in slots]
        steps, rows, lows = [], [], []
        for sequence, row in zip(sequences, logits, strict=True):
            assert sequence is not None
            request = sequence.request
            steps.append(request.first_step + len(sequence.tokens))
            low, high = request.ranges[steps[-1] % len(request.ranges)]
            rows.append(row[low - self.model.head_rows[0] : high - self.model.head_rows[0]])
            lows.append(low)
        # narrower ranges are padded with ids of probability 0: requests with and without EOS are sampled together
        stacked = pad_sequence(rows, batch_first=True, padding_value=-torch.inf)
        sampled = sample(stacked, [s.request.params for s in sequences if s], steps)
        self.tokens += len(slots)
        for i, (slot, sequence) in enumerate(zip(slots, sequences, strict=True)):
            assert sequence is not None
            if not sampled.finite[i]:
                self.slots[slot] = None
                sequence.done(RowError("not_finite", f"the model's output is not finite at step {steps[i]}"))
                continue
            stop = sampled.stops[i]
            if stop is None:
                sequence.last_token = lows[i] + sampled.indices[i]
                sequence.tokens.append(sequence.last_token)
                stop = "length" if len(sequence.tokens) == sequence.request.num_steps else None
            if stop is not None:
                self.slots[slot] = None
                self._advance(sequence, DecodeResult(sequence.tokens, stop), slot)

    def _advance(self, sequence: Sequence, result: DecodeResult | None, slot: int | None = None) -> None:
        """Send a result to the task, then queue its next request, or call `done` with its output."""
        try:
            sequence.request = next(sequence.task) if result is None else sequence.task.send(result)
        except StopIteration as finished:
            sequence.done(finished.value)
            return
        except RowError as error:
            sequence.done(error)
            return
        sequence.generated += len(sequence.tokens)
        sequence.tokens = []
        if sequence.request.prompt is None:
            assert slot is not None, "a task's first request needs a prompt"
            self.slots[slot] = sequence
            return
        if result is not None:  # a task that has begun continues before new ones begin
            sequence.rank = (-sys.maxsize, next(self._arrivals))
        heapq.heappush(self.waiting, (sequence.rank, sequence))
