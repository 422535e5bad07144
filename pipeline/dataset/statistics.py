"""The numbers of a dataset card: languages, voices, and how its clips are."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from pipeline.dataset.columns import find_numbers
from pipeline.shards.reader import query_parts, read_columns
from pipeline.shards.writer import Commit
from pipeline.storage.store import Store

MAX_PARTS = 500  # that are read; of a larger output, evenly spread ones
MEASURES = {  # of the column `quality`, as far as they were measured
    "lufs": "loudness, LUFS",
    "snr_db": "signal to noise, dB",
    "chars_per_second": "characters per second",
    "max_inner_silence_s": "longest inner silence, s",
    "wer": "word error rate",
    "speaker_similarity": "speaker similarity",
    "dnsmos_ovr": "DNSMOS",
}
QUANTILES = (0.05, 0.5, 0.95)


@dataclass
class Statistics:
    """Counts and quantiles of the clips that were read."""

    clips: int = 0
    is_sample: bool = False  # not all parts were read
    languages: Counter[str] = field(default_factory=Counter)
    voices: Counter[str] = field(default_factory=Counter)
    quantiles: dict[str, tuple[float, ...]] = field(default_factory=dict)  # by name for people: 5 %, median, 95 %


def statistics(store: Store, commits: Sequence[Commit]) -> Statistics:
    """Read the columns that a card is about; the same parts each time, so the same output has the same card."""
    written = [commit for commit in commits if commit.data]
    numbers = np.unique(np.linspace(0, len(written) - 1, MAX_PARTS).astype(int)) if len(written) > MAX_PARTS else None
    chosen = written if numbers is None else [written[i] for i in numbers]
    found = Statistics(is_sample=numbers is not None)
    values: dict[str, list[np.ndarray]] = {}
    columns = ["voice", "language", "duration", "quality"]
    for table in query_parts(store, chosen, lambda file: read_columns(file, columns)):
        found.clips += len(table)
        for name, counts in (("language", found.languages), ("voice", found.voices)):
            counts.update(value for value in table[name].to_pylist() if value is not None)
        values.setdefault("duration, s", []).append(table["duration"].to_numpy())
        for name, label in MEASURES.items():
            if (measured := find_numbers(table, name)) is not None:
                values.setdefault(label, []).append(measured)
    for label, arrays in values.items():
        joined = np.concatenate(arrays)
        if (finite := joined[np.isfinite(joined)]).size:
            found.quantiles[label] = tuple(float(each) for each in np.quantile(finite, QUANTILES))
    return found
