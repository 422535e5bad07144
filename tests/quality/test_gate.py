"""Limits on measures, the policy's keys, and which attempt is kept."""

from typing import Any

import numpy as np
import pytest

from pipeline.config import parse
from pipeline.errors import ConfigError, RowError
from pipeline.quality.attempts import RowJudge, attempt, attempt_seed, best
from pipeline.quality.gate import FEWER_IS_BETTER, MEASURES, MORE_IS_BETTER, TWO_SIDED, Gate, Limit
from pipeline.quality.settings import QualitySettings
from pipeline.quality.tokens import TokenGate
from pipeline.schema import QUALITY
from pipeline.shards.writer import FailedRow, WrittenRow

BASE = {"model": "m", "manifest": "a", "output": "b"}
CLEAN: dict[str, Any] = dict.fromkeys((field.name for field in QUALITY), None) | {"speech_ratio": 0.9}


def settings(**quality: Any) -> QualitySettings:
    return parse(BASE | {"quality": quality}, "run.yaml").quality


def judge(gate: Gate, **measures: Any) -> tuple[str | None, float]:
    verdict = gate.judge(CLEAN | measures, measures.get("stop", "eos"))
    return verdict.reason, verdict.score


def test_limits() -> None:
    gate = settings(
        reject={"stop": ["length"], "max_inner_silence_s": 1.5, "chars_per_second": [6, 30], "snr_db_min": 20}
    ).gate
    assert judge(gate, max_inner_silence_s=1.5, chars_per_second=6.0, snr_db=20.0) == (None, 0)
    assert judge(gate, max_inner_silence_s=None, chars_per_second=None) == (None, 0)  # too short to say
    assert judge(gate, max_inner_silence_s=3.0) == ("max_inner_silence_s 3 > 1.5", -1)
    assert judge(gate, chars_per_second=3.0) == ("chars_per_second 3 < 6", -0.5)
    assert judge(gate, snr_db=15.0, stop="length") == ("snr_db 15 < 20; stop is length", -1.25)
    assert judge(gate, speech_ratio=0) == ("no speech", -4)  # worse than any one limit
    assert judge(Gate(rejects_abrupt_ends=True), abrupt_end=True) == ("abrupt_end", -1)
    assert judge(Gate((Limit("clipped_runs", None, 0.0),)), clipped_runs=3) == ("clipped_runs 3 > 0", -3)


def test_relative_limits_are_those_of_the_rows_group() -> None:
    limits = {"chars_per_second": {"": (10.0, 20.0), "rms|en": (15.0, 25.0)}}
    gate = Gate((Limit("chars_per_second", is_relative=True),), relative=limits)
    measures = CLEAN | {"chars_per_second": 12.0}
    assert gate.judge(measures, "eos", "other|de").reason is None
    assert gate.judge(measures, "eos", "rms|en").reason == "chars_per_second 12 < 15"


def test_every_measure_has_a_direction() -> None:
    assert set(MEASURES) == FEWER_IS_BETTER | MORE_IS_BETTER | TWO_SIDED
    assert not MORE_IS_BETTER & TWO_SIDED


@pytest.mark.parametrize(
    ("quality", "says"),
    [
        ({"atempts": 2}, r"quality\.atempts: unknown key; did you mean attempts\?"),
        ({"attempts": 0}, r"quality\.attempts: .*greater than or equal to 1"),
        ({"attempts": "many"}, r"quality\.attempts: must be a number"),
        ({"attempts": True}, r"quality\.attempts: must be a number"),
        ({"attempts": 1.5}, r"quality\.attempts: "),
        ({"semantic_attempts": 0}, r"quality\.semantic_attempts: "),
        ({"semantic_attempts": None}, r"quality\.semantic_attempts: must be a number"),
        ({"choose": "worst"}, r"quality\.choose: .*'first' or 'best'"),
        ({"keep": "all"}, r"quality\.keep: .*'best' or 'none'"),
        ({"max_extra": -1}, r"quality\.max_extra: .*greater than or equal to 0"),
        ({"max_extra": float("nan")}, r"quality\.max_extra: must be a number"),
        ({"probe_rows": 3}, r"quality\.probe_rows: .*greater than or equal to 10"),
        ({"reject": ["length"]}, r"quality\.reject: "),
        ({"reject": {"stop": "length"}}, r"quality\.reject\.stop: "),
        ({"reject": {"stop": ["long"]}}, r"quality\.reject\.stop\.0: .*'length'"),
        ({"reject": {"max_inner_silence": 1}}, r"max_inner_silence: unknown key; did you mean max_inner_silence_s"),
        ({"reject": {"werr": 0.2}}, r"quality\.reject\.werr: unknown key; did you mean wer\?"),
        ({"reject": {"max_inner_silence_s": "long"}}, r"max_inner_silence_s: must be the highest number, \[lowest"),
        ({"reject": {"max_inner_silence_s": True}}, r"max_inner_silence_s: must be the highest number"),
        ({"reject": {"max_inner_silence_s": float("inf")}}, r"max_inner_silence_s: must be the highest number"),
        ({"reject": {"chars_per_second": 30}}, r"chars_per_second: must be relative or a range: use \[lowest, highest\]"),
        ({"reject": {"chars_per_second": [30, 6]}}, r"chars_per_second: must be \[lowest, highest\], 30 is above 6"),
        ({"reject": {"chars_per_second": [1, 2, 3]}}, r"chars_per_second: must be two numbers \[lowest, highest\]"),
        ({"reject": {"chars_per_second": [1, "x"]}}, r"chars_per_second: must be a number"),
        ({"reject": {"snr_db": 20}}, r"snr_db: must be relative or a range: use snr_db_min or \[lowest, highest\]"),
        ({"reject": {"snr_db_min": [1, 2]}}, r"quality\.reject\.snr_db_min: must be a number"),
        ({"reject": {"abrupt_end": 3}}, r"quality\.reject\.abrupt_end: "),
        ({"semantic_limits": {"max_repeats": 2}}, r"quality\.semantic_limits\.max_repeats: .*less than or equal to 1"),
        ({"semantic_limits": {"max_run": 0}}, r"quality\.semantic_limits\.max_run: "),
        ({"semantic_limits": {"tokens_per_char": {"en": 3}}}, r"tokens_per_char\.en: must be two numbers"),
        ({"semantic_limits": {"tokens_per_char": {"en": [-1, 3]}}}, r"tokens_per_char: en: must not be negative"),
        (None, r"quality: "),
        ([1], r"quality: "),
    ],
)  # fmt: skip
def test_wrong_keys_and_values_are_named(quality: Any, says: str) -> None:
    with pytest.raises(ConfigError, match=says) as caught:
        parse(BASE | {"quality": quality}, "run.yaml")
    assert str(caught.value).startswith("run.yaml: quality") and "\n" not in str(caught.value)


def test_the_identity_has_what_decides_the_output() -> None:
    assert settings().identity == {} and settings(max_extra=3, probe_rows=50).identity == {}
    assert settings(attempts=2).identity == {"attempts": 2, "keep": "best", "reject": {}}
    one = settings(reject={"stop": ["length"], "chars_per_second": [6, 30]}, max_extra=0.5)
    assert one.identity["reject"] == {"stop": ["length"], "chars_per_second": [6.0, 30.0]}
    assert settings(**one.model_dump(mode="json")) == one  # as a retry reads it
    assert "tokens_per_char" in settings(semantic_attempts=2).identity["semantic_limits"]


def test_seeds_of_attempts() -> None:
    seeds = [attempt_seed(seed, n) for seed in (0, 1, 2**63 - 1) for n in range(5)]
    assert len(set(seeds)) == 15 and all(0 <= seed < 2**63 for seed in seeds) and attempt_seed(7, 0) == 7


ROW = WrittenRow(np.zeros(1, np.int16), 0.5, 5, {}, 1, 2, 3, "eos", CLEAN, (attempt(5, "decode"),))
HISTORY = [attempt(1, "decode", "bad", -2.0), attempt(2, "decode", "no_speech"), attempt(3, "decode", "bad", -0.5)]


def row_judge(**changes: Any) -> RowJudge:
    values = {"is_last": False, "keeps_best": True, "remakes": False}
    return RowJudge(Gate((Limit("snr_db", 20.0),)), "decode", **(values | changes))


def test_an_attempt_is_accepted_rejected_or_kept() -> None:
    def row(snr_db: float) -> WrittenRow:
        return WrittenRow(**{**vars(ROW), "quality": CLEAN | {"snr_db": snr_db}})

    accepted = row_judge().decide(row(30), HISTORY)
    assert isinstance(accepted, WrittenRow) and accepted.quality and accepted.quality["verdict"] == "accepted"
    assert accepted.attempts == (*HISTORY, attempt(5, "decode", None, 0.0))
    rejected = row_judge().decide(row(10), HISTORY)
    assert isinstance(rejected, FailedRow) and rejected.is_rejected and rejected.score == -0.5
    assert (rejected.error.kind, str(rejected.error), rejected.attempts[-1]["score"]) == (
        "rejected",
        "snr_db 10 < 20",
        -0.5,
    )
    # at last: kept at once if it is better than all before; of equals, the earlier one is made again
    assert isinstance(row_judge(is_last=True).decide(row(12), HISTORY), WrittenRow)
    assert isinstance(row_judge(is_last=True).decide(row(10), HISTORY), FailedRow)
    assert isinstance(row_judge(is_last=True, keeps_best=False).decide(row(12), HISTORY), FailedRow)
    remade = row_judge(is_last=True, remakes=True).decide(row(10), HISTORY)
    assert isinstance(remade, WrittenRow) and remade.attempts == tuple(HISTORY) and remade.quality
    assert (remade.quality["verdict"], remade.quality["score"]) == ("kept", -0.5)
    assert best(HISTORY) == HISTORY[2] and best(HISTORY[1:2]) is None


def test_failures_by_chance_are_tried_again() -> None:
    mute = FailedRow(5, "semantic", RowError("no_speech", "nothing"))
    tried = row_judge().decide(mute, HISTORY)
    assert isinstance(tried, FailedRow) and tried.is_rejected
    assert tried.attempts[-1] == attempt(5, "semantic", "no_speech") and len(tried.attempts) == 4
    other = row_judge().decide(FailedRow(5, "text", RowError("empty_text", "nothing")), [])
    assert isinstance(other, FailedRow) and not other.is_rejected and other.attempts == ()


def test_token_gate() -> None:
    gate = TokenGate(3, False, fewest=20, most=100, max_repeats=0.5, max_run=30, must_end=True)
    speech = np.random.default_rng(0).permutation(10_000)
    assert gate.judge(speech[:60], "eos")[0] is None
    assert gate.judge(speech[:60], "length")[0] == "did not end"
    assert gate.judge(speech[:200], "eos")[0] == "200 tokens > 160"
    assert gate.judge(speech[:15], "eos")[0] == "15 tokens < 20"
    assert gate.judge(speech[:0], "eos")[0] == "0 tokens < 20"
    assert gate.judge(np.tile(speech[:20], 4), "eos")[0] == "token_repeats 1.00"
    assert gate.judge(np.full(60, 3), "eos")[0] == "longest_token_run 60"
    scores = [gate.judge(speech[:n], "eos")[1] for n in (57, 90, 150, 170, 400)]
    assert scores == sorted(scores, reverse=True) and scores[0] > -0.1 > -10 * 0.05 > scores[3]


def test_tokens_per_char_by_language() -> None:
    quality = settings(semantic_attempts=2, semantic_limits={"tokens_per_char": {"pt-br": [1, 2], "en": [2, 3]}})
    gates = {language: quality.token_gate(100, language) for language in (None, "en", "en-US", "pt-br", "xx", "fr")}
    found = {language: (gate.fewest, gate.most) for language, gate in gates.items() if gate}
    assert found[None] == found["en"] == found["en-US"] == (200, 300) and found["pt-br"] == (100, 200)
    assert found["xx"] != found["fr"] and settings().token_gate(100, "en") is None
