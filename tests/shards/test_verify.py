"""`verify` reports every kind of damage by name, and nothing in an undamaged output."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.errors import ConfigError, RowError
from pipeline.shards.audio import to_int16
from pipeline.shards.plan import Plan, plans_of, read_shard, write_plan
from pipeline.shards.verify import failure_kinds, status, verify
from pipeline.shards.writer import FailedRow, WrittenRow, write_shard
from pipeline.storage.store import Store

PLAN = Plan({"model": "m", "model_revision": "r"}, 10, 2)
MODEL = {"model": "m", "model_revision": "r", "generator": "g"}


def written_row(seed: int) -> WrittenRow:
    samples = np.sin(np.arange(960) / 9, dtype=np.float32)
    sampling = {"semantic_temperature": 0.7, "coarse_temperature": 0.7, "fine_temperature": 0.5}
    return WrittenRow(
        to_int16(samples), 0.5, seed, sampling, num_segments=1, num_semantic_tokens=2, num_frames=3, stop="eos"
    )


@pytest.fixture
def output(tmp_path: Path) -> Path:
    """Ten rows in five shards, four of them committed; row 3 failed."""
    store = Store(str(tmp_path / "out"))
    table = pa.table({"id": [f"row {i}" for i in range(10)], "text": ["words"] * 10})
    plan = write_plan(store, PLAN, iter([table]), {})
    for shard in range(4):
        outcomes: list[WrittenRow | FailedRow] = [written_row(2 * shard), written_row(2 * shard + 1)]
        if shard == 1:
            outcomes[1] = FailedRow(3, "text", RowError("empty_text", "no words"))
        write_shard(store, shard, read_shard(store, plan, shard), outcomes, "flac", MODEL)
    return tmp_path / "out"


def test_undamaged_output_has_no_problem(output: Path) -> None:
    report = verify(Store(str(output)))
    assert not report.problems
    assert str(report.counts) == "in 10 = written 7 + failed 1 + to go 2"
    assert (report.clips, report.missing_shards) == (7, 1)


def test_status_counts_rows_from_commits(output: Path) -> None:
    found = status(Store(str(output)))
    assert "10 = written 7 + failed 1 + to go 2" in "\n".join(found.lines)
    assert failure_kinds(Store(str(output)), found) == {"empty_text": 1}


def flip_a_byte(output: Path) -> None:
    part = output / "data/part-00002.parquet"
    content = bytearray(part.read_bytes())
    content[40] ^= 1
    part.write_bytes(content)


def swap_two_parts(output: Path) -> None:
    (output / "data/part-00002.parquet").write_bytes((output / "data/part-00000.parquet").read_bytes())


def change(name: str, **values: object) -> Callable[[Path], object]:
    """A function that changes values in a JSON file of the output."""

    def write(output: Path) -> None:
        content = json.loads((output / name).read_text())
        (output / name).write_text(json.dumps(content | values))

    return write


def without_a_column(output: Path) -> None:
    path = output / "data/part-00002.parquet"
    pq.write_table(pq.read_table(path).drop_columns(["num_samples"]), path)


def without_a_length(output: Path) -> None:
    path = output / "data/part-00002.parquet"
    table = pq.read_table(path)
    index = table.column_names.index("num_samples")
    pq.write_table(table.set_column(index, "num_samples", pa.nulls(len(table), pa.int64())), path)


DAMAGES: list[tuple[Callable[[Path], object], str]] = [
    (flip_a_byte, "data/part-00002.parquet: differs from what was committed"),
    (lambda o: (o / "data/part-00000.parquet").unlink(), "data/part-00000.parquet: is missing"),
    (lambda o: (o / "failures/part-00001.parquet").write_bytes(b""), "failures/part-00001.parquet: can't be read"),
    (lambda o: (o / "_commits/part-00003.json").unlink(), "data/part-00003.parquet: belongs to no commit"),
    (swap_two_parts, "id 'row 0' is there more than once"),
    (swap_two_parts, "part-00002: id 'row 4' is planned and not there"),
    (lambda o: (o / "_commits/part-00003.json").rename(o / "_commits/part-00009.json"), "part-00009.json"),
    (
        change("_commits/part-00002.json", num_samples=10**12),
        "part-00002.parquet: 1,920 samples, its commit says 1,000",
    ),
    (change("_commits/part-00002.json", written="2"), "part-00002.json: damaged: written Input should be"),
    (change("_commits/part-00002.json", written=-2), "part-00002.json: damaged: written Input should be"),
    (change("_commits/part-00002.json", shard=3), "part-00002.json: damaged: it belongs to shard 3"),
    (lambda o: (o / "_commits/part-00002.json").write_text("[" * 100_000), "part-00002.json: damaged"),
    (without_a_column, "part-00002.parquet: can't be read: it has no column num_samples"),
    (without_a_length, "id 'row 4': num_samples or sampling_rate is null"),
]


@pytest.mark.parametrize(("damage", "expected"), DAMAGES)
def test_reports_damage(output: Path, damage: Callable[[Path], object], expected: str) -> None:
    damage(output)
    problems = "\n".join(verify(Store(str(output))).problems)
    assert expected in problems


def test_reports_clips_that_cannot_be_decoded(output: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.shards.writer.encode", lambda samples, audio_format: b"fLaC and then nothing")
    store = Store(str(output))
    write_shard(store, 4, read_shard(store, plans_of(store)[0], 4), [written_row(8), written_row(9)], "flac", MODEL)
    problems = verify(store).problems
    assert len(problems) == 2 and all("can't be decoded" in problem for problem in problems)


@pytest.mark.parametrize(
    "values",
    [
        {"rows_per_shard": 0},
        {"num_rows": "ten"},
        {"identity": None},
        {"first_shard": "0"},
        {"files": []},
        {"format_version": "2"},
    ],
)
def test_damaged_plan_is_a_one_line_error(output: Path, values: dict[str, object]) -> None:
    change("_plan/run.json", **values)(output)
    with pytest.raises(ConfigError, match=rf"run\.json: damaged: {next(iter(values))}.*; use a new output folder"):
        status(Store(str(output)))


def test_counts_unreadable_failures(output: Path) -> None:
    (output / "failures/part-00001.parquet").unlink()
    assert failure_kinds(Store(str(output)), status(Store(str(output)))) == {"unreadable": 1}


def test_concurrent_writer_with_other_bytes_leaves_one_complete_shard(output: Path) -> None:
    """Another writer commits other outcomes while this one writes its parts."""
    store = Store(str(output))
    table = read_shard(store, plans_of(store)[0], 4)

    class Late(Store):
        def put(self, name: str, content: bytes) -> None:
            if name.startswith("data/"):
                others = [written_row(8), FailedRow(9, "coarse", RowError("unknown_voice", "503"))]
                write_shard(store, 4, table, others, "flac", MODEL)
            super().put(name, content)

    _, already_committed = write_shard(Late(str(output)), 4, table, [written_row(8), written_row(9)], "flac", MODEL)
    report = verify(store)
    assert already_committed and not report.problems
    assert str(report.counts) == "in 10 = written 9 + failed 1"


def test_stale_listing_repeats_work_and_changes_nothing(output: Path) -> None:
    """A shard whose commit was missing from the listing is made again, and what is committed does not change."""
    store = Store(str(output))
    before = {path: path.read_bytes() for path in output.rglob("*.*")}
    for shard in range(4):
        commit, already_committed = write_shard(
            store,
            shard,
            read_shard(store, plans_of(store)[0], shard),
            [written_row(70), written_row(71)],
            "flac",
            MODEL,
        )
        assert already_committed and commit.shard == shard
    assert {path: path.read_bytes() for path in output.rglob("*.*")} == before


def test_refuses_a_folder_without_a_run(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no run in this folder"):
        status(Store(str(tmp_path)))
