"""One real Ray for all tests of the flow, and a manifest with a bit of everything."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import ray

from pipeline.config import RunConfig, parse

ROWS: list[dict[str, Any]] = [
    {"id": "plain", "text": "A plain sentence."},
    {"id": "voice", "text": "With a voice.", "voice": "v2/en_speaker_6", "seed": 7},
    {"id": "german", "text": "Ein Satz auf Deutsch.", "voice": "v2/de_speaker_3", "language": "de"},
    {"id": "long", "text": "This sentence is one of several. " * 12, "language": "en"},
    {"id": "unsplittable", "text": "x" * 400},
    {"id": "empty", "text": "   "},
    {"id": "no text", "text": None},
    {"id": "stranger", "text": "Who speaks?", "voice": "nobody"},
    {
        "id": "greedy",
        "text": "No dice.",
        "semantic_temperature": 0.0,
        "coarse_temperature": 0.0,
        "fine_temperature": 0.0,
    },
    {"id": "bad setting", "text": "Too hot.", "top_p": 7.0},
    {"id": "mute", "text": "This sentence is one of several. " * 12, "voice": "v2/fr_speaker_1"},  # EOS comes first
    {"id": "../escape", "text": "A path for an id.", "top_k": 9, "max_semantic_tokens": 20},
]
FAILED = {"unsplittable": "cannot_split", "empty": "empty_text", "no text": "empty_text"} | {
    "stranger": "unknown_voice",
    "bad setting": "bad_setting",
    "mute": "no_speech",
}
SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("text", pa.string()),
        ("voice", pa.string()),
        ("language", pa.string()),
        ("seed", pa.int64()),
    ]
    + [(f"{stage}_temperature", pa.float64()) for stage in ("semantic", "coarse", "fine")]
    + [("top_k", pa.int64()), ("top_p", pa.float64()), ("max_semantic_tokens", pa.int64()), ("topic", pa.string())]
)


@pytest.fixture(scope="session")
def cluster() -> Iterator[None]:
    ray.init(address="local", num_cpus=16, include_dashboard=False, log_to_driver=True)
    yield
    ray.shutdown()


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    """Twelve rows: six that can be spoken and six that can't, each for a reason of its own."""
    rows = [{**row, "topic": f"topic {i}"} for i, row in enumerate(ROWS)]
    path = tmp_path / "manifest.parquet"
    pq.write_table(pa.Table.from_pylist(rows, schema=SCHEMA), path)
    return path


@pytest.fixture
def make_config(tiny: Path, manifest: Path, tmp_path: Path) -> Callable[..., RunConfig]:
    """A config on the tiny model; keyword arguments change it."""

    def make(**changes: Any) -> RunConfig:
        pool = {"num_cpus": 1, "slots": 4}
        values: dict[str, Any] = {
            "model": str(tiny),
            "manifest": str(manifest),
            "output": str(tmp_path / "out"),
            "rows_per_shard": 4,
            "sampling": {"max_semantic_tokens": 40},
            "segments": {"max_tokens": 200},
            "pools": dict.fromkeys(("semantic", "coarse", "fine", "decode"), pool),
        }
        return parse(values | changes, "test")

    return make
