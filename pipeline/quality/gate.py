"""Decides whether a row's measures are good enough, by limits that do not depend on other rows or on order."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pipeline.schema import QUALITY

RELATIVE = "relative"  # a limit that follows from the run's probe
NOT_LIMITED = ("verdict", "score", "asr_text", "abrupt_end")  # fields of QUALITY without an upper or lower limit
MEASURES = tuple(field.name for field in QUALITY if field.name not in NOT_LIMITED)
DNSMOS = tuple(name for name in MEASURES if name.startswith("dnsmos"))
MORE_IS_BETTER = frozenset(
    ("speech_ratio", "snr_db", "bandwidth_hz", "vad_speech_ratio", "speaker_similarity", *DNSMOS)
)
# Neither: too much and too little are both bad
TWO_SIDED = frozenset(("rms_dbfs", "lufs", "chars_per_second", "f0_hz", "tokens_per_char"))
FEWER_IS_BETTER = frozenset(MEASURES) - MORE_IS_BETTER - TWO_SIDED
JUDGE_OF = {  # the judge that a measure needs; the others are always there
    "vad_speech_ratio": "vad",
    **dict.fromkeys(DNSMOS, "dnsmos"),
    **dict.fromkeys(("wer", "cer", "per"), "asr"),
    "speaker_similarity": "speaker",
}
Bounds = tuple[float | None, float | None]


@dataclass(frozen=True)
class Limit:
    """The allowed range of one measure; a relative one has a range for each group of rows (`Gate.relative`)."""

    measure: str
    low: float | None = None
    high: float | None = None
    is_relative: bool = False


@dataclass(frozen=True)
class Verdict:
    """Why a row is rejected (None: it is accepted), and its score: 0, or minus the sum of all relative excesses."""

    reason: str | None
    score: float


@dataclass(frozen=True)
class Gate:
    """The limits of a run."""

    limits: tuple[Limit, ...] = ()
    stops: frozenset[str] = frozenset()  # reasons of the semantic stage to stop that are rejected
    rejects_abrupt_ends: bool = False
    relative: Mapping[str, Mapping[str, Bounds]] | None = None  # measure and group to bounds, from the run's probe

    def judge(self, quality: Mapping[str, Any], stop: str, group: str = "") -> Verdict:
        """Judge one row by its measures, schema.QUALITY.

        Args:
            stop: the row's column.
            group: of the relative limits (`probe.group_of`).
        """
        found = [excess for limit in self.limits if (excess := self._excess(limit, quality, group))]
        if stop in self.stops:
            found.append((1.0, f"stop is {stop}"))
        if self.rejects_abrupt_ends and quality["abrupt_end"]:
            found.append((1.0, "abrupt_end"))
        if quality["speech_ratio"] == 0:
            found.append((float(1 + len(self.limits)), "no speech"))
        return Verdict("; ".join(reason for _, reason in found) or None, -sum(excess for excess, _ in found))

    def _excess(self, limit: Limit, quality: Mapping[str, Any], group: str) -> tuple[float, str] | None:
        """How far a measure is beyond its limit, as a share of the limit, with a text; None if it is within. A measure
        that is null, because the clip was too short or too quiet to say, is within."""
        value = quality[limit.measure]
        low, high = self._bounds(limit, group)
        if value is None:
            return None
        if high is not None and value > high:
            return (value - high) / (abs(high) or 1.0), f"{limit.measure} {value:.4g} > {high:.4g}"
        if low is not None and value < low:
            return (low - value) / (abs(low) or 1.0), f"{limit.measure} {value:.4g} < {low:.4g}"
        return None

    def _bounds(self, limit: Limit, group: str) -> Bounds:
        if not limit.is_relative:
            return limit.low, limit.high
        by_group = (self.relative or {}).get(limit.measure, {})
        return by_group.get(group) or by_group.get("") or (None, None)
