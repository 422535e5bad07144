"""Objects are complete or absent, only the first `create` succeeds, and a plan returns its rows."""

import io
import threading
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import soundfile

from pipeline.errors import ConfigError
from pipeline.schema import AUDIO
from pipeline.shards import plan as plans
from pipeline.shards import writer
from pipeline.shards.audio import encode, to_int16
from pipeline.storage.store import Store


@pytest.fixture(params=["local", "memory"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    return Store(str(tmp_path / "out") if request.param == "local" else f"memory://{tmp_path}/out")


def test_reads_and_lists_what_was_written(store: Store) -> None:
    assert store.names("data") == []
    store.put("data/b", b"old")
    store.put("data/b", b"new")
    store.put("data/a", b"")
    assert store.names("data") == ["a", "b"]
    assert store.get("data/b") == b"new" and store.exists("data/a") and not store.exists("data/c")
    with pytest.raises(FileNotFoundError):
        store.get("data/c")


def test_only_the_first_create_succeeds(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    wins: list[int] = []
    threads = [
        threading.Thread(target=lambda i=i: store.create("x/one", b"%d" % i) and wins.append(i)) for i in range(20)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(wins) == 1 and store.get("x/one") == b"%d" % wins[0]
    assert [p.name for p in (tmp_path / "x").iterdir()] == ["one"]  # no temporary file is left


def test_unwritable_output_is_a_config_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for url in (str(tmp_path / "file/below"), "nosuchscheme://x/y"):
        with pytest.raises(ConfigError, match=r"output .*: can't be"):
            Store(url).check_writable()


def test_plan_returns_its_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plans, "SHARDS_PER_FILE", 3)
    store = Store(str(tmp_path))
    table = pa.table({"id": [str(i) for i in range(47)], "text": [f"t{i}" for i in range(47)]})
    pieces = [table[:5], table[5:30], table[30:31], table[31:]]
    plan = plans.Plan({"seed": 1}, 47, 4)
    plan = plans.write_plan(store, plan, iter(pieces), {})
    assert plans.open_plan(store) == plan and plan.num_shards == 12 and plan.rows_in(11) == 3
    read = pa.concat_tables([plans.read_shard(store, plan, k) for k in range(12)])
    assert read.equals(table)
    assert [len(plans.read_shard(store, plan, k)) for k in (0, 11)] == [4, 3]
    plans.refuse_changes(store, plan, plan, iter([table]))  # the same rows in other tables are no change
    content = store.get(f"_plan/{plan.files[1]}")
    for damaged in (b"PAR1", content[:90] + b"?" + content[91:]):
        store.put(f"_plan/{plan.files[1]}", damaged)
        with pytest.raises(ConfigError, match=r"plan-00001-\w+\.parquet: the run's plan is missing or damaged"):
            plans.refuse_changes(store, plan, plan, iter([table]))


def test_values_that_parquet_converts_are_no_change(tmp_path: Path) -> None:
    table = pa.table(
        {
            "id": ["a", "b", "c"],
            "text": ["x", "y", "z"],
            "score": [1.0, float("nan"), None],
            "when": pa.array([0, 1, 2], pa.timestamp("s")),  # Parquet has no seconds
            "at": pa.array([0, 1, 2], pa.time32("s")),
        }
    )
    store = Store(str(tmp_path))
    plan = plans.write_plan(store, plans.Plan({}, 3, 2), iter([table]), {})
    plans.refuse_changes(store, plan, plan, iter([table]))
    other = table.set_column(2, "score", pa.array([1.0, float("nan"), float("nan")]))
    with pytest.raises(ConfigError, match=r"manifest row 2 \(id 'c'\) differs"):
        plans.refuse_changes(store, plan, plan, iter([other]))


@pytest.mark.parametrize("rows_per_shard", [2, 4])
def test_concurrent_plans_do_not_mix(tmp_path: Path, rows_per_shard: int) -> None:
    """When the second driver, with other rows, writes its run.json, the first one's is there."""
    tables = {who: pa.table({"id": [f"{who}{i}" for i in range(4)], "text": ["words"] * 4}) for who in "AB"}

    class Second(Store):
        def create(self, name: str, content: bytes) -> bool:
            plans.write_plan(Store(str(tmp_path)), plans.Plan({}, 4, 2), iter([tables["A"]]), {})
            return super().create(name, content)

    with pytest.raises(ConfigError, match="another run was started there at the same time"):
        plans.write_plan(Second(str(tmp_path)), plans.Plan({}, 4, rows_per_shard), iter([tables["B"]]), {})
    plan = plans.open_plan(Store(str(tmp_path)))
    assert plan and pa.concat_tables(plans.planned_shards(Store(str(tmp_path)), plan)).equals(tables["A"])


@pytest.mark.parametrize("audio_format", ["flac", "wav", "mp3"])
def test_same_samples_give_the_same_bytes(audio_format: str, tmp_path: Path) -> None:
    samples = (0.5 * np.sin(np.arange(24_000) * 0.05)).astype(np.float32)
    content = encode(to_int16(samples), audio_format)
    assert content == encode(to_int16(samples), audio_format)
    (tmp_path / "clip").write_bytes(content)
    read, rate = soundfile.read(tmp_path / "clip", dtype="int16")
    assert rate == 24_000
    if audio_format != "mp3":
        assert np.array_equal(read, to_int16(samples))


def test_limits_loud_samples() -> None:
    loud = np.array([-2.0, -1.0, 0.0, 1.0, 3.0], np.float32)
    assert to_int16(loud).tolist() == [-32767, -32767, 0, 32767, 32767]


def test_splits_long_clips_into_row_groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer, "MAX_GROUP_BYTES", 250)
    monkeypatch.setattr(writer, "MAX_GROUP_ROWS", 3)
    sizes = (100, 100, 100, 400, 10, 10, 10, 10)
    rows = [{"id": str(i), "audio": {"bytes": bytes([i]) * size, "path": None}} for i, size in enumerate(sizes)]
    schema = pa.schema([("id", pa.string()), ("audio", AUDIO)])
    file = pq.ParquetFile(io.BytesIO(writer.to_parquet(rows, schema) or b""))
    assert [file.metadata.row_group(g).num_rows for g in range(file.num_row_groups)] == [2, 1, 1, 3, 1]
    assert file.read().to_pylist() == rows
