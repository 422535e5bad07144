"""`verify` finds what is broken on purpose, each by name, and nothing in a whole output."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from pipeline.errors import ConfigError, RowError
from pipeline.shards.audio import to_int16
from pipeline.shards.plan import Plan, read_shard, write_plan
from pipeline.shards.storage import Store
from pipeline.shards.verify import failure_kinds, status, verify
from pipeline.shards.writer import Failed, Spoken, write_shard

PLAN = Plan({"model": "m", "model_revision": "r"}, 10, 2)
MODEL = {"model": "m", "model_revision": "r", "generator": "g"}


def spoken(seed: int) -> Spoken:
    samples = np.sin(np.arange(960) / 9, dtype=np.float32)
    sampling = {"semantic_temperature": 0.7, "coarse_temperature": 0.7, "fine_temperature": 0.5}
    return Spoken(
        to_int16(samples), 0.5, seed, sampling, num_segments=1, num_semantic_tokens=2, num_frames=3, stop="eos"
    )


@pytest.fixture
def output(tmp_path: Path) -> Path:
    """Ten rows in five shards, four of them committed; row 3 failed."""
    store = Store(str(tmp_path / "out"))
    table = pa.table({"id": [f"row {i}" for i in range(10)], "text": ["words"] * 10})
    write_plan(store, PLAN, iter([table]), {})
    for shard in range(4):
        outcomes: list[Spoken | Failed] = [spoken(2 * shard), spoken(2 * shard + 1)]
        if shard == 1:
            outcomes[1] = Failed(3, "text", RowError("empty_text", "no words"))
        write_shard(store, shard, read_shard(store, PLAN, shard), outcomes, "flac", MODEL)
    return tmp_path / "out"


def test_a_whole_output_has_no_problem(output: Path) -> None:
    report = verify(Store(str(output)))
    assert not report.problems
    assert str(report.standing) == "in 10 = written 7 + failed 1 + to go 2"
    assert (report.clips, report.missing_shards) == (7, 1)


def test_status_counts_from_the_commits(output: Path) -> None:
    found = status(Store(str(output)))
    assert "10 = written 7 + failed 1 + to go 2" in "\n".join(found.lines)
    assert failure_kinds(Store(str(output)), found.commits) == {"empty_text": 1}


def flip_a_byte(output: Path) -> None:
    part = output / "data/part-00002.parquet"
    content = bytearray(part.read_bytes())
    content[40] ^= 1
    part.write_bytes(content)


def swap_two_parts(output: Path) -> None:
    (output / "data/part-00002.parquet").write_bytes((output / "data/part-00000.parquet").read_bytes())


BREAKS: list[tuple[Callable[[Path], object], str]] = [
    (flip_a_byte, "data/part-00002.parquet: is not what was committed"),
    (lambda o: (o / "data/part-00000.parquet").unlink(), "data/part-00000.parquet: is missing"),
    (lambda o: (o / "failures/part-00001.parquet").write_bytes(b""), "failures/part-00001.parquet: can't be read"),
    (lambda o: (o / "_commits/part-00003.json").unlink(), "data/part-00003.parquet: belongs to no commit"),
    (swap_two_parts, "id 'row 0' is there more than once"),
    (swap_two_parts, "part-00002: id 'row 4' is planned and not there"),
    (lambda o: (o / "_commits/part-00003.json").rename(o / "_commits/part-00009.json"), "part-00009.json"),
]


@pytest.mark.parametrize(("break_it", "said"), BREAKS)
def test_what_is_broken_is_named(output: Path, break_it: Callable[[Path], object], said: str) -> None:
    break_it(output)
    problems = "\n".join(verify(Store(str(output))).problems)
    assert said in problems


def test_a_clip_that_is_no_sound_is_found(output: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.shards.writer.encode", lambda samples, audio_format: b"fLaC and then nothing")
    store = Store(str(output))
    write_shard(store, 4, read_shard(store, PLAN, 4), [spoken(8), spoken(9)], "flac", MODEL)
    problems = verify(store).problems
    assert len(problems) == 2 and all("can't be decoded" in problem for problem in problems)


def test_a_folder_without_a_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="holds no run"):
        status(Store(str(tmp_path)))
