"""The engine's scheduling, on a model of a few lines: the next token is the last one plus one."""

import numpy as np
import pytest
import torch

from pipeline.engine.engine import DecodeRequest, DecodeResult, Engine, GenerationTask
from pipeline.engine.kv_cache import KVCache
from pipeline.engine.sampling import SamplingParams
from pipeline.errors import RowError

V = 50


class CountingModel:
    """Its likeliest next id is the last input plus one; the logits after id 40 are not finite."""

    head_rows = (0, V)
    merged_len = 0

    def __init__(self) -> None:
        self.prefills = 0

    def _logits(self, last: torch.Tensor) -> torch.Tensor:
        logits = torch.nn.functional.one_hot((last + 1) % V, V).float()
        logits[last == 40] = float("nan")
        return logits

    def prefill(self, ids: torch.Tensor, cache: KVCache, slot: int) -> torch.Tensor:
        self.prefills += 1
        return self._logits(ids[-1:])

    def decode(self, tokens: torch.Tensor, positions: torch.Tensor, cache: KVCache) -> torch.Tensor:
        assert all((p == 0) == (t == 0) for p, t in zip(positions.tolist(), tokens.tolist(), strict=True))
        return self._logits(tokens)


@pytest.fixture
def engine() -> Engine:
    cache = KVCache(
        n_layer=1, n_head=1, head_width=1, slots=3, positions=64, dtype=torch.float32, device=torch.device("cpu")
    )
    return Engine(CountingModel(), cache, torch.device("cpu"))


GREEDY = SamplingParams((0, 0), 0.0)


def count(start: int, *lengths: int, carried: bool = False) -> GenerationTask:
    """Counts up from `start` in requests of these lengths; each continues where the last one ended."""
    tokens: list[int] = []
    for i, length in enumerate(lengths):
        prompt = None if carried and i else np.array([tokens[-1] if tokens else start])
        result: DecodeResult = yield DecodeRequest(prompt, length, ((0, V),), GREEDY, len(tokens))
        tokens += result.tokens
    return tokens


def run(engine: Engine, *tasks: GenerationTask) -> list:
    results: list[list] = [[] for _ in tasks]
    for task, done in zip(tasks, results, strict=True):
        engine.submit(task, done.append)
    while engine.step():
        pass
    assert all(len(done) == 1 for done in results)  # each gets one result
    return [done[0] for done in results]


def test_more_tasks_than_slots_each_finish_once(engine: Engine) -> None:
    results = run(engine, *(count(i, 1 + i % 7, 2) for i in range(1, 20)))
    assert results == [list(range(i + 1, i + 1 + (1 + i % 7) + 2)) for i in range(1, 20)]
    assert engine.busy_slot_steps <= engine.steps * 3
    assert engine.busy_slot_steps > 0.8 * engine.steps * 3  # a free slot goes to the next request at once


def test_request_without_a_prompt_continues_in_its_slot(engine: Engine) -> None:
    assert run(engine, count(3, 4, 4, 4, carried=True)) == [list(range(4, 16))]
    assert isinstance(engine.model, CountingModel) and engine.model.prefills == 1


def test_eos_ends_a_request_and_is_not_a_token(engine: Engine) -> None:
    def until_ten() -> GenerationTask:
        result = yield DecodeRequest(np.array([5]), 30, ((0, 11),), SamplingParams((0, 0), 0.0, eos=10))
        return result

    assert run(engine, until_ten()) == [DecodeResult([6, 7, 8, 9], "eos")]


def test_output_that_is_not_finite_fails_only_its_row(engine: Engine) -> None:
    good, bad, other = run(engine, count(1, 9), count(38, 9), count(2, 9))
    assert isinstance(bad, RowError) and bad.kind == "not_finite"
    assert good == list(range(2, 11)) and other == list(range(3, 12))
    assert run(engine, count(7, 2)) == [[8, 9]]  # the slot is free again


def test_narrow_range_with_eos_beside_a_wide_range(engine: Engine) -> None:
    def until_ten() -> GenerationTask:
        result = yield DecodeRequest(np.array([5]), 30, ((0, 11),), SamplingParams((0, 0), 0.0, eos=10))
        return result.stop

    assert run(engine, count(1, 20), until_ten()) == [list(range(2, 22)), "eos"]


def test_prompt_with_output_that_is_not_finite_fails_only_its_row(engine: Engine) -> None:
    bad, good = run(engine, count(40, 3), count(1, 3))
    assert isinstance(bad, RowError) and good == [2, 3, 4]


def test_error_in_a_task_fails_only_its_row(engine: Engine) -> None:
    def refuses() -> GenerationTask:
        yield DecodeRequest(np.array([1]), 2, ((0, V),), GREEDY)
        raise RowError("refused", "no")

    bad, good = run(engine, refuses(), count(1, 5))
    assert isinstance(bad, RowError) and bad.kind == "refused"
    assert good == [2, 3, 4, 5, 6]


def test_tasks_may_be_submitted_while_others_run(engine: Engine) -> None:
    results: dict[str, list[int]] = {}

    def first_done(output: list[int]) -> None:
        results["first"] = output
        engine.submit(count(20, 3), lambda output: results.__setitem__("second", output))

    engine.submit(count(1, 2), first_done)
    while engine.step():
        pass
    assert results == {"first": [2, 3], "second": [21, 22, 23]}
