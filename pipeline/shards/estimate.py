"""What a run was expected to be, in the output's `_plan/estimate.json`: `barkery plan` writes it, reports read it."""

import json
from dataclasses import asdict, dataclass, field

from pydantic import TypeAdapter

from pipeline.storage.store import Store

FILE = "_plan/estimate.json"


@dataclass(frozen=True)
class Estimate:
    """Expected numbers of a run; None where they were not estimated."""

    rows: int
    characters: int
    split_rows: int  # that need more than one Bark pass
    failing_rows: int  # before anything is spoken
    audio_s: float
    audio_low_s: float  # nine times out of ten it is between these two
    audio_high_s: float
    shards: int
    sampled_rows: int  # that were looked at; fewer than `rows` where the numbers are projections
    probed_rows: int = 0
    work_s: float | None = None  # wall seconds, without starting
    gpu_s: float | None = None
    cost: float | None = None
    rejected_rows: int | None = None  # by the quality gate, or failed while they were spoken
    price_per_hour: float | None = None
    failures: dict[str, int] = field(default_factory=dict)  # by kind


ADAPTER = TypeAdapter(Estimate)


def save_estimate(store: Store, estimate: Estimate) -> None:
    """Keep an estimate in the output; the last one counts."""
    store.put(FILE, json.dumps(asdict(estimate), indent=1).encode())


def read_estimate(store: Store) -> Estimate | None:
    """The estimate in an output; None if there is none that can be read: it is information, and nothing needs it."""
    try:
        return ADAPTER.validate_json(store.get(FILE))
    except (FileNotFoundError, ValueError):
        return None
