"""A manifest of any size is looked at in parts: exact counts where the file has them, projections where it does not."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.errors import ConfigError
from pipeline.manifest.manifest import Manifest
from pipeline.manifest.sample import READ_WHOLE, sample_manifest


def table(count: int) -> pa.Table:
    """The later a row, the longer its text."""
    return pa.table(
        {"id": [f"row {i}" for i in range(count)], "text": ["w" * (10 + i * 90 // count) for i in range(count)]}
    )


def test_small_manifest_is_read_whole_and_checked(tmp_path: Path) -> None:
    pq.write_table(table(100), tmp_path / "m.parquet")
    sample = sample_manifest(Manifest(str(tmp_path / "m.parquet")))
    assert sample.is_whole and sample.num_rows == len(sample.rows) == 100
    assert sample_manifest(Manifest(str(tmp_path / "m.parquet"), limit=7)).num_rows == 7
    pq.write_table(pa.table({"id": ["a", "a"], "text": ["x", "y"]}), tmp_path / "twice.parquet")
    with pytest.raises(ConfigError, match="already used"):
        sample_manifest(Manifest(str(tmp_path / "twice.parquet")))


def test_large_parquet_is_sampled_evenly_and_counted_exactly(tmp_path: Path) -> None:
    count = 10 * READ_WHOLE
    pq.write_table(table(count), tmp_path / "m.parquet", row_group_size=5_000)
    sample = sample_manifest(Manifest(str(tmp_path / "m.parquet")))
    assert sample.is_exact and not sample.is_whole and sample.num_rows == count
    assert 5_000 < len(sample.rows) <= READ_WHOLE
    mean = sum(map(len, sample.rows["text"].to_pylist())) / len(sample.rows)
    assert mean == pytest.approx(55, rel=0.05)
    assert sample_manifest(Manifest(str(tmp_path / "m.parquet"), limit=50_000)).num_rows == 50_000


def test_large_text_file_is_projected(tmp_path: Path) -> None:
    count = 3 * READ_WHOLE
    lines = (json.dumps({"id": f"row {i:06d}", "text": "Some words of a sentence, all alike."}) for i in range(count))
    (tmp_path / "m.jsonl").write_text("\n".join(lines))
    sample = sample_manifest(Manifest(str(tmp_path / "m.jsonl")))
    assert not sample.is_exact and sample.num_rows == pytest.approx(count, rel=0.5)
    with pytest.raises(ConfigError, match="no such file"):
        sample_manifest(Manifest(str(tmp_path / "none.jsonl")))
