"""Sampling settings: the Arrow columns are derived from the dataclass, so that no field is lost on the way."""

from dataclasses import fields

import pyarrow as pa

from pipeline.sampling import Sampling
from pipeline.schema import EDGE, SAMPLING_COLUMNS

OTHER = Sampling(
    semantic_temperature=0.1,
    coarse_temperature=0.2,
    fine_temperature=0.3,
    top_k=4,
    top_p=0.5,
    min_eos_p=0.6,
    allow_early_stop=False,
    max_semantic_tokens=7,
    coarse_window=80,
    coarse_history=90,
)  # no field at its default


def test_every_field_has_a_column() -> None:
    assert list(SAMPLING_COLUMNS) == [field.name for field in fields(Sampling)]
    assert SAMPLING_COLUMNS["top_p"] == pa.float64() and SAMPLING_COLUMNS["top_k"] == pa.int64()
    assert SAMPLING_COLUMNS["allow_early_stop"] == pa.bool_()


def test_every_field_survives_the_edge_between_pools() -> None:
    default = Sampling().as_dict()
    assert all(OTHER.as_dict()[name] != default[name] for name in SAMPLING_COLUMNS)
    for sampling in (OTHER, Sampling()):
        rows = [{"shard": 0, "segments": [{"row": 0, "seed": 1, "sampling": sampling.as_dict()}]}]
        (row,) = pa.Table.from_pylist(rows, schema=EDGE).to_pylist()
        assert Sampling(**row["segments"][0]["sampling"]) == sampling
