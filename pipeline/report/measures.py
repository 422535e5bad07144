"""The measures that a report shows, and how they are counted so that many processes can count in parts."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from pipeline.dataset.columns import find_numbers


@dataclass(frozen=True)
class Measure:
    """A number of each clip: where it comes from, the bins of its histogram, and which end is suspicious."""

    name: str  # a column of its own, or a field of the column `quality`
    label: str
    low: float
    high: float  # values outside are counted in the first and the last bin
    bins: int
    worst: str  # low, high or both
    in_summary: bool = True  # has a histogram; else it only chooses clips

    @property
    def edges(self) -> np.ndarray:
        return np.linspace(self.low, self.high, self.bins + 1)

    def values(self, table: pa.Table) -> np.ndarray:
        """(N,) float64 values of all rows; NaN where a row has none."""
        column = COMPUTED[self.name](table) if self.name in COMPUTED else find_numbers(table, self.name)
        return np.full(len(table), np.nan) if column is None else column

    def count(self, values: np.ndarray) -> np.ndarray:
        """(bins,) numbers of values in each bin."""
        finite = np.clip(values[np.isfinite(values)], self.low, self.high)
        return np.histogram(finite, self.edges)[0]


def speaking_rate(table: pa.Table) -> np.ndarray:
    """Characters per second: as measured between the first sound and the last, else of the whole clip."""
    measured = find_numbers(table, "chars_per_second")
    if measured is not None and np.isfinite(measured).any():
        return measured
    characters = np.array([len(text or "") for text in table["text"].to_pylist()], dtype=np.float64)
    return characters / np.maximum(table["duration"].to_numpy(), 1e-3)


COMPUTED: dict[str, Callable[[pa.Table], np.ndarray]] = {"chars_per_second": speaking_rate}
MEASURES = (
    Measure("duration", "duration, s", 0, 20, 40, "both"),
    Measure("chars_per_second", "characters per second", 0, 40, 40, "both"),
    Measure("lufs", "loudness, LUFS", -60, 0, 40, "both"),
    Measure("snr_db", "signal to noise, dB", 0, 80, 40, "low"),
    Measure("wer", "word error rate", 0, 1, 40, "high"),
    Measure("score", "score", -2, 0, 40, "low", in_summary=False),
    Measure("max_inner_silence_s", "longest inner silence, s", 0, 5, 40, "high", in_summary=False),
    Measure("self_similarity", "self-similarity", 0, 1, 40, "high", in_summary=False),
    Measure("speaker_similarity", "speaker similarity", 0, 1, 40, "low", in_summary=False),
    Measure("dnsmos_ovr", "DNSMOS", 1, 5, 40, "low", in_summary=False),
)


def quantile(counts: np.ndarray, edges: np.ndarray, share: float) -> float:
    """A quantile from a histogram, within one bin's width."""
    total = np.cumsum(counts)
    if not total[-1]:
        return float("nan")
    wanted = share * total[-1]
    number = int(np.searchsorted(total, wanted))
    before = total[number - 1] if number else 0
    part = (wanted - before) / max(1, counts[number])
    return float(edges[number] + part * (edges[number + 1] - edges[number]))
