"""Manifest errors are one line that names file, column and row; all formats and sets of files give the same rows."""

import json
from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.errors import ConfigError
from pipeline.manifest.manifest import Manifest

ROWS = [
    {"id": f"r{i}", "text": f"Text {i}.", "voice": None if i % 2 else "v2/en_speaker_1", "seed": i} for i in range(10)
]


def read(url: Path | str) -> list[dict[str, Any]]:
    manifest = Manifest(str(url))
    rows = [row for table in manifest.tables() for row in table.to_pylist()]
    assert manifest.check() == len(rows)
    return rows


def parquet(path: Path, columns: dict[str, Any]) -> Path:
    pq.write_table(pa.table(columns), path)
    return path


def test_reads_parquet_csv_and_jsonl_alike(tmp_path: Path) -> None:
    pq.write_table(pa.Table.from_pylist(ROWS), tmp_path / "a.parquet", row_group_size=3)
    (tmp_path / "a.jsonl").write_text("\n".join(json.dumps(row) for row in ROWS))
    lines = [f"{r['id']},{r['text']},{r['voice'] or ''},{r['seed']}" for r in ROWS]
    (tmp_path / "a.csv").write_text("\n".join(["id,text,voice,seed", *lines]))
    assert read(tmp_path / "a.parquet") == read(tmp_path / "a.jsonl") == ROWS
    assert [r | {"voice": r["voice"] or None} for r in read(tmp_path / "a.csv")] == ROWS


def test_reads_folders_and_globs_in_sorted_order(tmp_path: Path) -> None:
    for name, part in (("b", ROWS[5:]), ("a", ROWS[:5])):
        pq.write_table(pa.Table.from_pylist(part), tmp_path / f"{name}.parquet")
    (tmp_path / "_SUCCESS").touch()
    assert read(tmp_path) == read(f"{tmp_path}/*.parquet") == read(f"file://{tmp_path}") == ROWS
    assert Manifest(str(tmp_path), limit=7).check() == 7


@pytest.mark.slow
def test_reads_a_million_rows_in_tiny_row_groups(tmp_path: Path) -> None:
    """Thirty thousand row groups: the rows are read in order, and memory grows by one hash per row."""
    count = 1_000_000
    table = pa.table({"id": pa.array(range(count)), "text": pa.repeat("A sentence.", count)})
    pq.write_table(table, tmp_path / "m.parquet", row_group_size=33)
    manifest = Manifest(str(tmp_path / "m.parquet"))
    assert manifest.check() == count
    before = pa.total_allocated_bytes()
    first = 0
    for each in manifest.tables():
        assert each["id"][0].as_py() == str(first) and each["id"][-1].as_py() == str(first + len(each) - 1)
        first += len(each)
        assert pa.total_allocated_bytes() - before < 50 * 2**20
    assert first == count


@pytest.mark.slow
def test_reads_thousands_of_tiny_files(tmp_path: Path) -> None:
    for i in range(2000):
        parquet(tmp_path / f"{i:04d}.parquet", {"id": [f"{i}"], "text": ["A sentence."]})
    assert [row["id"] for row in read(tmp_path)] == [f"{i}" for i in range(2000)]


def test_accepts_whole_numbers_as_ids_in_every_format(tmp_path: Path) -> None:
    path = parquet(tmp_path / "a.parquet", {"id": [1, 20], "text": ["a", "b"]})
    assert [row["id"] for row in read(path)] == ["1", "20"]
    (tmp_path / "b.csv").write_text("id,text\n007,a\n")
    assert read(tmp_path / "b.csv")[0]["id"] == "007"


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        ({"text": ["a"]}, "column id is missing; it has text"),
        ({"id": ["a"], "txt": ["a"]}, "column text is missing"),
        ({"id": ["a", None], "text": ["a", "b"]}, "row 1: column id is null"),
        ({"id": ["a", "b", "a"], "text": ["1", "2", "3"]}, r"row 2: column id: 'a' was already used in .* row 0"),
        ({"id": ["a"], "text": [1]}, "column text must be string, is int64"),
        ({"id": [1.5], "text": ["a"]}, "column id must be string, is double"),
        ({"id": ["a"], "text": ["a"], "voice": [3]}, "column voice must be string"),
        ({"id": ["a"], "text": ["a"], "seed": ["3"]}, "column seed must be int64, is string"),
        ({"id": ["a"], "text": ["a"], "top_k": [1.5]}, "column top_k must be int64, is double"),
        ({"id": ["a"], "text": [["nested"]]}, "column text must be string"),
        ({"id": ["a"], "text": ["a"], "duration": [1.0]}, "column duration is reserved for the output"),
        ({"id": pa.array([], pa.string()), "text": pa.array([], pa.string())}, "has no rows"),
    ],
)
def test_names_file_column_and_row_of_mistakes(tmp_path: Path, columns: dict[str, Any], expected: str) -> None:
    path = parquet(tmp_path / "m.parquet", columns)
    with pytest.raises(ConfigError, match=expected) as caught:
        read(path)
    assert "m.parquet" in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("column", ["id", "text", "topic"])
def test_names_columns_that_are_not_utf8(tmp_path: Path, column: str) -> None:
    columns = {name: pa.array([b"a", b"b\x80"]).view(pa.binary()) for name in ("id", "text", "topic")}
    table = {
        name: array.view(pa.string()) if name == column else pa.array(["a", "b"]) for name, array in columns.items()
    }
    path = parquet(tmp_path / "m.parquet", table)
    with pytest.raises(ConfigError, match=r"m\.parquet: can't be read: .*UTF8"):
        read(path)
    (tmp_path / "m.jsonl").write_bytes(b'{"id": "a", "text": "b"}\n{"id": "c", "text": "d\x80"}')
    with pytest.raises(ConfigError, match=r"m\.jsonl: can't be read: .*UTF8"):
        read(tmp_path / "m.jsonl")


def test_finds_duplicate_ids_across_files(tmp_path: Path) -> None:
    parquet(tmp_path / "a.parquet", {"id": ["x", "y"], "text": ["1", "2"]})
    parquet(tmp_path / "b.parquet", {"id": ["z", "x"], "text": ["3", "4"]})
    with pytest.raises(ConfigError, match=r"b\.parquet row 1: column id: 'x' was already used in .*a\.parquet row 0"):
        read(tmp_path)


@pytest.mark.parametrize("name", ["m.parquet", "m.csv", "m.jsonl"])
def test_names_damaged_and_missing_files(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError, match=f"{name}: no such file"):
        read(tmp_path / name)
    (tmp_path / name).write_bytes(b"\x00\xff\xfe{]")
    with pytest.raises(ConfigError, match=name):
        read(tmp_path / name)


def test_refuses_files_with_other_columns(tmp_path: Path) -> None:
    parquet(tmp_path / "a.parquet", {"id": ["x"], "text": ["1"]})
    parquet(tmp_path / "b.parquet", {"id": ["y"], "text": ["1"], "mood": ["good"]})
    with pytest.raises(ConfigError, match=r"b\.parquet: its columns differ from .*a\.parquet: mood"):
        read(tmp_path)


@pytest.mark.parametrize(
    ("first", "second", "kind"),
    [
        (pa.nulls(2), pa.array(["s", None]), pa.string()),
        (pa.array(["s", None]), pa.nulls(2), pa.string()),
        (pa.array([1, 2]), pa.array([1.5, 2]), pa.float64()),
        (pa.array([1, 2], pa.int8()), pa.array([1, 2], pa.int64()), pa.int64()),
        (pa.array([datetime(2024, 1, 1)] * 2, pa.timestamp("s")), pa.nulls(2, pa.timestamp("us")), pa.timestamp("us")),
    ],
    ids=lambda value: str(getattr(value, "type", "")),
)
def test_casts_files_with_different_types_to_one_schema(
    tmp_path: Path, first: pa.Array, second: pa.Array, kind: pa.DataType
) -> None:
    parquet(tmp_path / "a.parquet", {"id": ["a", "b"], "text": ["1", "2"], "mood": first})
    parquet(tmp_path / "b.parquet", {"id": ["c", "d"], "text": ["1", "2"], "mood": second})
    manifest = Manifest(str(tmp_path))
    assert manifest.check() == 4
    assert [table.schema.field("mood").type for table in manifest.tables()] == [kind, kind]
    assert [row["mood"] for row in read(tmp_path)] == first.to_pylist() + second.to_pylist()


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        ([1], ["s"], "column mood is string, but int64 before"),
        ([2**53 + 1], [1.5], "column mood is int64, elsewhere it needs double"),
        ([[1]], [1], "column mood is int64, but list"),
    ],
)
def test_names_types_without_a_common_schema(tmp_path: Path, first: Any, second: Any, expected: str) -> None:
    parquet(tmp_path / "a.parquet", {"id": ["a"], "text": ["1"], "mood": first})
    parquet(tmp_path / "b.parquet", {"id": ["b"], "text": ["1"], "mood": second})
    with pytest.raises(ConfigError, match=rf"[ab]\.parquet: {expected}"):
        Manifest(str(tmp_path)).check()


@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_reads_a_column_that_is_empty_for_thousands_of_rows(tmp_path: Path, kind: str) -> None:
    """The first block has only nulls, a later one text."""
    rows = [{"id": f"r{i}", "text": "A text.", "voice": None, "note": None} for i in range(100_000)]
    rows[-1] |= {"voice": "v2/en_speaker_1", "note": "the last"}
    path = tmp_path / f"rows.{kind}"
    if kind == "csv":
        path.write_text("id,text,voice,note\n" + "".join(f"{','.join(v or '' for v in r.values())}\n" for r in rows))
    else:
        path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    made = [{name: value or None for name, value in row.items()} for row in read(path)]  # in CSV, text is never null
    assert made == rows


@pytest.mark.parametrize("size", [1_200_000, 11_000_000])
@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_reads_lines_of_megabytes(tmp_path: Path, kind: str, size: int) -> None:
    """They follow a block of many short lines, of which none is yielded twice."""
    rows = [{"id": f"r{i}", "text": "Short. " * 50} for i in range(5000)]
    rows[4000]["text"] = "x" * size
    lines = [json.dumps(row) if kind == "jsonl" else f"{row['id']},{row['text']}" for row in rows]
    path = tmp_path / f"m.{kind}"
    path.write_text("\n".join((["id,text"] if kind == "csv" else []) + lines))
    assert [(row["id"], row["text"].strip()) for row in read(path)] == [(r["id"], r["text"].strip()) for r in rows]


@pytest.mark.parametrize(
    "values",
    [
        pa.array([1, 10**18], pa.timestamp("us")),
        pa.array([None, 1], pa.timestamp("us", "Mars/Phobos")),
        pa.array([1, 6_600_000], pa.int32()).cast(pa.date32()),
        pa.array([[], [2**62]], pa.list_(pa.duration("s"))),
        pa.StructArray.from_arrays(
            [pa.array([1, 2]), pa.array([3, 4])], names=["a", "a"], mask=pa.array([True, False])
        ),
    ],
    ids=lambda values: str(values.type),
)
def test_names_values_without_a_python_equivalent(tmp_path: Path, values: pa.Array) -> None:
    path = parquet(tmp_path / "m.parquet", {"id": ["a", "b"], "text": ["1", "2"], "made": values})
    with pytest.raises(ConfigError, match=r"m\.parquet row 1: column made: Python can't represent this value"):
        Manifest(str(path)).check()
