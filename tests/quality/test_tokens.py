"""Repetitions in semantic tokens."""

import numpy as np

from pipeline.quality.tokens import NGRAM, measure_tokens


def test_repetitions() -> None:
    rng = np.random.default_rng(0)
    speech = rng.permutation(10_000)[:200]
    assert measure_tokens(speech) == {"token_repeats": 0.0, "longest_token_run": 1}
    assert measure_tokens(np.zeros(0, int)) == {"token_repeats": 0.0, "longest_token_run": 0}
    looped = np.concatenate([speech[:100], speech[60:100]])
    assert measure_tokens(looped)["token_repeats"] == 80 / 140
    held = np.concatenate([speech[:10], np.full(50, 7), speech[10:20]])
    assert measure_tokens(held) == {"token_repeats": 0.0, "longest_token_run": 50}
    assert measure_tokens(np.full(300, 5)) == {"token_repeats": 0.0, "longest_token_run": 300}
    short = np.concatenate([speech[:NGRAM], speech[50:60], speech[:NGRAM]])
    assert measure_tokens(short)["token_repeats"] == 2 * NGRAM / short.size
