"""The settings `quality` of a run: which clips are rejected, how often they are tried, and what is kept then."""

import math
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BeforeValidator, Field, create_model, field_validator

from pipeline.quality.gate import FEWER_IS_BETTER, MEASURES, MORE_IS_BETTER, RELATIVE, Gate, Limit
from pipeline.quality.section import QualitySection
from pipeline.quality.tokens import TOKENS_PER_CHAR, TokenGate


def check_range(value: Any) -> tuple[float, float]:
    """Two numbers in order; raises ValueError."""
    if not isinstance(value, list | tuple) or len(value) != 2:
        raise ValueError("must be two numbers [lowest, highest]")
    low, high = (check_number(each) for each in value)
    if low > high:
        raise ValueError(f"must be [lowest, highest], {low:g} is above {high:g}")
    return low, high


def check_number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError("must be a number")
    return float(value)


def check_limit(name: str) -> BeforeValidator:
    """Checks the value of a measure's own key: a highest number, [lowest, highest], or `relative`."""

    def check(value: Any) -> float | tuple[float, float] | str | None:
        if value is None or value == RELATIVE:
            return value
        if isinstance(value, list | tuple):
            return check_range(value)
        if name not in FEWER_IS_BETTER:
            what = f"{name}_min or [lowest, highest]" if name in MORE_IS_BETTER else "[lowest, highest]"
            raise ValueError(f"must be {RELATIVE} or a range: use {what}")
        try:
            return check_number(value)
        except ValueError as error:
            raise ValueError(f"must be the highest number, [lowest, highest] or {RELATIVE}") from error

    return BeforeValidator(check)


Number = Annotated[float, BeforeValidator(check_number)]


class RejectBase(QualitySection):
    """One key for each measure, and two for its ends; what is not set rejects nothing."""

    stop: tuple[Literal["eos", "eos_p", "length"], ...] = ()
    abrupt_end: bool = False

    @property
    def limits(self) -> list[Limit]:
        """What is set, one limit for each end or range."""
        found = []
        for name in MEASURES:
            value, low, high = (getattr(self, key) for key in (name, f"{name}_min", f"{name}_max"))
            if value == RELATIVE:
                found.append(Limit(name, is_relative=True))
            elif value is not None:
                found.append(Limit(name, *(value if isinstance(value, tuple) else (None, value))))
            if low is not None or high is not None:
                found.append(Limit(name, low, high))
        return found

    @property
    def set_values(self) -> dict[str, Any]:
        """Only what is set, as plain values."""
        return self.model_dump(mode="json", exclude_defaults=True)


if TYPE_CHECKING:
    Reject = RejectBase
else:
    Reject = create_model(
        "Reject",
        __base__=RejectBase,
        **{name: (Annotated[float | tuple[float, float] | str | None, check_limit(name)], None) for name in MEASURES},
        **{f"{name}_{end}": (Number | None, None) for name in MEASURES for end in ("min", "max")},
    )


class TokenLimits(QualitySection):
    """What is wrong with the semantic tokens of a segment, before there is a sound."""

    # over the defaults of tokens.py
    tokens_per_char: dict[str, Annotated[tuple[float, float], BeforeValidator(check_range)]] = Field(
        default_factory=dict
    )
    max_repeats: float = Field(0.5, gt=0, le=1)  # share of the tokens in sequences that occur more than once
    max_run: int = Field(150, ge=2)  # of one token: 3 s
    must_end: bool = True  # with EOS before `max_semantic_tokens`

    @field_validator("tokens_per_char")
    @classmethod
    def _positive(cls, value: dict[str, tuple[float, float]]) -> dict[str, tuple[float, float]]:
        for language, (low, _) in value.items():
            if low < 0:
                raise ValueError(f"{language}: must not be negative")
        return value


class QualitySettings(QualitySection):
    """How clips are judged, and what happens to bad ones. The defaults judge none."""

    semantic_attempts: int = Field(1, ge=1, le=64)  # draws of a segment's semantic tokens, until one passes
    choose: Literal["first", "best"] = "first"  # best: all draws are made, and the one with the best score goes on
    semantic_limits: TokenLimits = TokenLimits()
    attempts: int = Field(1, ge=1, le=64)  # of a whole row that is rejected
    reject: Reject = Reject()
    keep: Literal["best", "none"] = "best"  # after the last attempt: the best one, or none: then the row fails
    max_extra: float = Field(0.2, ge=0)  # rows that may be spoken again, as a share of all rows; then the run stops
    probe_rows: int = Field(200, ge=10)  # of which limits that say `relative` are made

    @field_validator("max_extra", "attempts", "semantic_attempts", "probe_rows", mode="before")
    @classmethod
    def _is_number(cls, value: Any) -> Any:
        check_number(value)
        return value

    @property
    def is_on(self) -> bool:
        """Whether any row can be rejected or spoken again."""
        return self.attempts > 1 or bool(self.reject.set_values)

    @property
    def needs_probe(self) -> bool:
        """Whether a limit follows from the run's first rows."""
        return any(limit.is_relative for limit in self.reject.limits)

    @property
    def gate(self) -> Gate:
        return Gate(tuple(self.reject.limits), frozenset(self.reject.stop), self.reject.abrupt_end)

    def token_gate(self, num_chars: int, language: str | None) -> TokenGate | None:
        """How a segment's tokens are checked; None if they are drawn once whatever they are."""
        if self.semantic_attempts == 1:
            return None
        limits = self.semantic_limits
        table = TOKENS_PER_CHAR | limits.tokens_per_char
        short = (language or "en").split("-")[0].lower()
        low, high = table.get(language or "en") or table.get(short) or table["other"]
        bounds = (low * num_chars, high * num_chars, limits.max_repeats, limits.max_run, limits.must_end)
        return TokenGate(self.semantic_attempts, self.choose == "best", *bounds)

    @property
    def identity(self) -> dict[str, Any]:
        """The settings that decide what is in the output; empty if all are at their defaults, as in older releases."""
        settings: dict[str, Any] = {}
        if self.semantic_attempts > 1:
            settings |= self.model_dump(mode="json", include={"semantic_attempts", "choose", "semantic_limits"})
            settings["semantic_limits"]["tokens_per_char"] = TOKENS_PER_CHAR | self.semantic_limits.tokens_per_char
        if self.is_on:
            settings |= self.model_dump(mode="json", include={"attempts", "keep"}) | {"reject": self.reject.set_values}
        if self.needs_probe:
            settings["probe_rows"] = self.probe_rows
        return settings
