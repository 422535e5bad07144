"""Attempts at a row: their seeds, their records (schema.ATTEMPT), and which one is kept.

Every attempt has a seed that follows from the row's own and the attempt's number, so each can be made again, alone or
in any batch. A rejected row becomes part of the next generation, and its record travels with it.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from pipeline.engine.random import make_key
from pipeline.errors import RowError
from pipeline.quality.gate import Gate
from pipeline.sampling import MAX_SEED
from pipeline.shards.writer import FailedRow, WrittenRow

REJECTED = "rejected"
BY_CHANCE = frozenset((REJECTED, "no_speech", "not_finite"))  # kinds of failures that another seed may not have
Attempt = dict[str, Any]  # schema.ATTEMPT


def attempt_seed(seed: int, attempt: int) -> int:
    """The seed of the n-th attempt; attempt 0 keeps the row's own."""
    if attempt == 0:
        return seed
    low, high = make_key("attempt", seed, attempt)
    return (high << 32 | low) & MAX_SEED


def of_rows(attempts: Sequence[Attempt]) -> list[Attempt]:
    """Those of the whole row, without the draws of single segments."""
    return [each for each in attempts if each["segment"] is None]


def best(attempts: Sequence[Attempt]) -> Attempt | None:
    """The attempt at the whole row with the best score, the earliest of equals; None if none has a score."""
    scored = [each for each in of_rows(attempts) if each["score"] is not None]
    return max(scored, key=lambda each: each["score"], default=None)  # the first of the largest


@dataclass(frozen=True)
class RowJudge:
    """Turns the outcome of each row of one generation into what is written: accepted, kept, or rejected."""

    gate: Gate
    stage: str  # that has measured
    is_last: bool  # no attempt follows
    keeps_best: bool  # after the last attempt
    remakes: bool  # this generation makes the best attempts again: all are kept

    def decide(
        self, outcome: WrittenRow | FailedRow, history: Sequence[Attempt], group: str = ""
    ) -> WrittenRow | FailedRow:
        """The outcome with its attempts; a WrittenRow that is rejected becomes a FailedRow.

        Args:
            history: the attempts of earlier generations.
            group: of the relative limits.
        """
        if isinstance(outcome, FailedRow):
            if outcome.error.kind not in BY_CHANCE:
                return replace(outcome, attempts=(*history, *outcome.attempts))
            mine = attempt(outcome.seed, outcome.stage, outcome.error.kind)
            return replace(outcome, attempts=(*history, *outcome.attempts, mine), is_rejected=True)
        assert outcome.quality is not None, "a row is measured before it is judged"
        verdict = self.gate.judge(outcome.quality, outcome.stop, group)
        mine = attempt(outcome.seed, self.stage, verdict.reason, verdict.score)
        draws = [each for each in outcome.attempts if each["segment"] is not None]
        attempts = (*history, *draws, mine)
        if self.remakes:
            return judged(outcome, "kept", verdict.score, tuple(history))
        if verdict.reason is None:
            return judged(outcome, "accepted", verdict.score, attempts)
        if self.is_last and self.keeps_best and best(attempts) is mine:
            return judged(outcome, "kept", verdict.score, attempts)
        error = RowError(REJECTED, verdict.reason)
        return FailedRow(outcome.seed, self.stage, error, verdict.score, attempts, is_rejected=True)


def judged(row: WrittenRow, verdict: str, score: float, attempts: tuple[Attempt, ...]) -> WrittenRow:
    return replace(row, quality={**(row.quality or {}), "verdict": verdict, "score": score}, attempts=attempts)


def attempt(seed: int | None, stage: str, reason: str | None = None, score: float | None = None) -> Attempt:
    """The record of one attempt at a whole row."""
    return {"seed": seed, "stage": stage, "segment": None, "reason": reason, "score": score}
