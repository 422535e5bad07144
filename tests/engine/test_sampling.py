"""Sampling one token: filters in Suno's order, temperature 0 as argmax, and the rules of EOS."""

import torch

from pipeline.engine.sampling import SamplingParams, apply_top_p_top_k, sample

LOGITS = torch.tensor([4.0, 3.0, 2.0, 1.0, 0.0])


def allowed(**filters: float) -> list[int]:
    """Ids that the filters leave."""
    result = apply_top_p_top_k(LOGITS, SamplingParams((0, 0), 0.7, **filters))  # type: ignore[arg-type]
    return torch.isfinite(result).nonzero().flatten().tolist()


def test_filters_keep_the_likeliest() -> None:
    assert allowed(top_k=2) == [0, 1]
    assert allowed(top_p=0.5) == [0]  # the first id alone has 0.64: it stays
    assert allowed(top_p=0.7) == [0, 1]  # the id that crosses the limit stays, too
    assert allowed(top_p=0.9, top_k=3) == [0, 1, 2]  # top_p first; in the other order two would be left
    assert allowed(top_k=99) == [0, 1, 2, 3, 4]


def test_top_p_looks_at_probabilities_before_temperature() -> None:
    hot = SamplingParams((1, 1), 50.0, top_p=0.7)
    sampled = {sample(LOGITS[None].clone(), [hot], [step]).indices[0] for step in range(200)}
    assert sampled == {0, 1}  # nearly even after temperature, but only those that top_p leaves before it


def test_greedy_rows_beside_sampled_rows() -> None:
    logits = LOGITS.repeat(3, 1)
    params_list = [SamplingParams((0, 0), 0.0), SamplingParams((5, 5), 5.0), SamplingParams((0, 0), 0.0, top_k=3)]
    for step in range(30):
        result = sample(logits.clone(), params_list, [step] * 3)
        alone = sample(LOGITS[None].clone(), params_list[1:2], [step])
        assert result.indices[0] == result.indices[2] == 0
        assert result.indices[1] == alone.indices[0]


def test_eos_ends_when_sampled_or_likely_enough() -> None:
    last = torch.tensor([[0.0, 0.0, 9.0]])
    assert sample(last.clone(), [SamplingParams((0, 0), 0.0, eos=2)], [0]).stops == ["eos"]
    assert sample(last.clone(), [SamplingParams((0, 0), 0.0)], [0]).stops == [None]  # no EOS in this request
    even = torch.zeros(1, 3)
    stops = {sample(even.clone(), [SamplingParams((1, 2), 1.0, eos=2, min_eos_p=0.3)], [s]).stops[0] for s in range(40)}
    assert stops == {"eos", "eos_p"}
    stops = {sample(even.clone(), [SamplingParams((1, 2), 1.0, eos=2, min_eos_p=0.4)], [s]).stops[0] for s in range(40)}
    assert stops == {"eos", None}


def test_min_eos_p_applies_after_temperature() -> None:
    logits = torch.tensor([[2.0, 0.0]])  # P(EOS) 0.12; at temperature 10: 0.45
    hot = SamplingParams((0, 0), 10.0, eos=1, min_eos_p=0.2)
    cold = SamplingParams((0, 0), 1.0, eos=1, min_eos_p=0.2)
    assert all(sample(logits.clone(), [hot], [s]).stops[0] for s in range(20))
    assert not all(sample(logits.clone(), [cold], [s]).stops[0] for s in range(20))


def test_rows_that_are_not_finite_are_reported() -> None:
    logits = torch.zeros(3, 4)
    logits[1, 2] = float("nan")
    assert sample(logits, [SamplingParams((0, 0), 0.7)] * 3, [0, 0, 0]).finite == [True, False, True]
