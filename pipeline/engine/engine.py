"""Continuous batching over a fixed set of slots: schedule, run, postprocess.

The engine knows requests of token ids; it has never heard of text, audio or Ray. The model and the cache are
handed in. An utterance is a program: a generator that yields requests, is sent the answers, and returns its
result. A slot is given to the next request at once, whichever utterance it belongs to.
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

    `prompt` None goes on where the program's last request ended: its slot and cache are kept. Step n draws from
    the id range `ranges[(first_step + n) % len(ranges)]`; `first_step` also counts the noise on.
    """

    prompt: np.ndarray | None  # (P,) int64
    num_steps: int
    ranges: tuple[tuple[int, int], ...]
    params: SamplingParams
    first_step: int = 0


@dataclass(frozen=True)
class DecodeResult:
    """Token ids without EOS, and why it ended: `eos`, `eos_p` or `length`."""

    tokens: list[int]
    stop: str


GenerationTask = Generator[DecodeRequest, DecodeResult, Any]
DoneCallback = Callable[[Any], None]  # called with the program's result or a RowError


@dataclass
class Sequence:
    """A program on its way: its current request and, while it has a slot, where it is."""

    task: GenerationTask
    done: DoneCallback
    request: DecodeRequest
    rank: tuple[int, int]  # among those that wait: the lowest is next
    tokens: list[int] = field(default_factory=list)  # of the current request
    last_token: int = 0  # drawn, not yet fed
    position: int = 0  # where last_token goes


class Engine:
    """Call `submit` for each program, then `step` until it returns False."""

    def __init__(self, model: CausalModel, cache: KVCache, device: torch.device):
        self.model = model
        self.cache = cache
        self.device = device
        self.decode = make_step(model, cache, device)
        self.waiting: list[tuple[tuple[int, int], Sequence]] = []  # a heap
        self._arrivals = count()
        self.slots: list[Sequence | None] = [None] * cache.slots
        self.steps = 0  # decode steps run
        self.busy_slot_steps = 0  # of steps x slots, those that served a row
        self.tokens = 0  # tokens drawn
        self.positions_read = 0  # of the cache, by the decode steps
        self.prompts: Counter[int] = Counter()  # prefills by their number of positions

    def submit(self, task: GenerationTask, done: DoneCallback, length: int = 0) -> None:
        """Queue a program; `done` is called from within `step`, once.

        The longest starts first, so that no slot works alone at the end; `length` is its number of tokens, or
        any guess that grows with it. Equal ones start in the order of their arrival.
        """
        sequence = Sequence(
            task, done, DecodeRequest(None, 0, (), SamplingParams((0, 0), 0)), (-length, next(self._arrivals))
        )
        self._advance(sequence, None)

    @torch.inference_mode()
    def step(self) -> bool:
        """Fill free slots, then one token for every busy slot. False: nothing left to do."""
        self._schedule()
        busy = [slot for slot, sequence in enumerate(self.slots) if sequence]
        if busy:
            self._postprocess(busy, self._run(busy))
        if self.waiting or any(self.slots):
            return True
        self.cache.release()
        return False

    def _schedule(self) -> None:
        """Give each free slot to the next request: a prefill, whose logits give the request's first token."""
        for slot in range(len(self.slots)):
            while self.waiting and self.slots[slot] is None:
                _, sequence = heapq.heappop(self.waiting)
                ids = torch.as_tensor(sequence.request.prompt, dtype=torch.int64, device=self.device)
                self.slots[slot] = sequence
                sequence.position = len(ids) - self.model.merged_len
                self.prompts[sequence.position] += 1
                self._postprocess([slot], self.model.prefill(ids, self.cache, slot))

    def _run(self, busy: list[int]) -> Tensor:
        """Feed every busy slot its last token -> logits (busy, V)."""
        tokens, positions = ([0] * len(self.slots) for _ in range(2))  # an idle slot stands at position 0
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
        """Draw a token for each row of logits (len(slots), V), and let the programs go on whose request is answered."""
        sequences = [self.slots[slot] for slot in slots]
        steps, rows, lows = [], [], []
        for sequence, row in zip(sequences, logits, strict=True):
            assert sequence is not None
            request = sequence.request
            steps.append(request.first_step + len(sequence.tokens))
            low, high = request.ranges[steps[-1] % len(request.ranges)]
            rows.append(row[low - self.model.head_rows[0] : high - self.model.head_rows[0]])
            lows.append(low)
        # a narrower range is filled up with ids that can't be drawn: requests with and without EOS stand side by side
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
        """Send an answer to the program; queue its next request, or hand over its result."""
        try:
            sequence.request = next(sequence.task) if result is None else sequence.task.send(result)
        except StopIteration as finished:
            sequence.done(finished.value)
            return
        except RowError as error:
            sequence.done(error)
            return
        sequence.tokens = []
        if sequence.request.prompt is None:
            assert slot is not None, "a program's first request needs a prompt"
            self.slots[slot] = sequence
            return
        if result is not None:  # first things first: an utterance that has begun goes on before new ones begin
            sequence.rank = (-sys.maxsize, next(self._arrivals))
        heapq.heappush(self.waiting, (sequence.rank, sequence))
