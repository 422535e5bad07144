"""Shared by the tests of the flow: a manifest with rows of every kind, one Ray, and finished outputs to copy."""

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import ray

from pipeline.config import STAGES, RunConfig, parse
from pipeline.flow.driver import run
from pipeline.shards.reader import RowCounts
from tests.flow.in_process import replace_ray

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
    {"id": "mute", "text": "This sentence is one of several. " * 12, "voice": "v2/fr_speaker_1"},  # EOS is drawn first
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


MakeConfig = Callable[..., RunConfig]


@dataclass(frozen=True)
class FinishedRun:
    """A complete output of `make_config()`'s rows. Tests work on copies."""

    output: Path
    summary: RowCounts

    def copy_to(self, output: str) -> None:
        shutil.copytree(self.output, output)


def write_manifest(path: Path) -> None:
    rows = [{**row, "topic": f"topic {i}"} for i, row in enumerate(ROWS)]
    pq.write_table(pa.Table.from_pylist(rows, schema=SCHEMA), path)


def tiny_config(tiny: Path, folder: Path, **changes: Any) -> RunConfig:
    """A config on the tiny model, from `folder`/manifest.parquet to `folder`/out; keyword arguments change it."""
    pool = {"num_cpus": 1, "slots": 4}
    values: dict[str, Any] = {
        "model": str(tiny),
        "manifest": str(folder / "manifest.parquet"),
        "output": str(folder / "out"),
        "rows_per_shard": 4,
        "sampling": {"max_semantic_tokens": 40},
        "segments": {"max_tokens": 200},
        "pools": dict.fromkeys(STAGES, pool),
    }
    return parse(values | changes, "test")


def finished_run(config: RunConfig) -> FinishedRun:
    write_manifest(Path(config.manifest))
    return FinishedRun(Path(config.output), run(config))


@pytest.fixture(scope="session")
def cluster() -> Iterator[None]:
    ray.init(address="local", num_cpus=16, include_dashboard=False, log_to_driver=True)
    yield
    ray.shutdown()


@pytest.fixture
def in_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """`run` and `retry` work without Ray in this test."""
    replace_ray(monkeypatch)


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    """Twelve rows: six that become speech and six that fail, each for another reason."""
    write_manifest(tmp_path / "manifest.parquet")
    return tmp_path / "manifest.parquet"


@pytest.fixture
def make_config(tiny: Path, manifest: Path, tmp_path: Path) -> MakeConfig:
    """`tiny_config` in this test's folder."""
    return lambda **changes: tiny_config(tiny, tmp_path, **changes)


@pytest.fixture(scope="session")
def finished(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> FinishedRun:
    """Made in this process, with one actor in each pool."""
    with pytest.MonkeyPatch.context() as patch:
        replace_ray(patch)
        return finished_run(tiny_config(tiny, tmp_path_factory.mktemp("finished")))


@pytest.fixture(scope="session")
def finished_on_ray(cluster: None, tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> FinishedRun:
    """Made on Ray with two actors in each pool; the third pool may grow to three."""
    pool = {"num_cpus": 1, "slots": 4, "actors": 2, "shards_in_flight": 1}
    pools = dict.fromkeys(STAGES, pool) | {"fine": pool | {"actors": {"min": 2, "max": 3}}}
    return finished_run(tiny_config(tiny, tmp_path_factory.mktemp("finished_on_ray"), pools=pools))
