"""`pipeline.read`: an output as a table and as clips, in Python and in a notebook."""

import gc
import time
from pathlib import Path

import numpy as np
import pytest

import pipeline
from pipeline.errors import ConfigError
from pipeline.storage.store import Store
from tests.export.conftest import FAILED, IDS, make_output, samples_of


@pytest.fixture(scope="module")
def output(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_output(tmp_path_factory.mktemp("read") / "out")


def test_table_has_all_rows_in_order(output: Path) -> None:
    speech = pipeline.read(output)
    table = speech.to_arrow()
    assert len(speech) == len(table) == 39 and table.column_names[:3] == ["id", "text", "voice"]
    assert table["id"].to_pylist() == [IDS.get(i, f"row {i}") for i in range(40) if IDS.get(i) or f"row {i}" != FAILED]
    frame = speech.to_pandas()
    assert "audio" not in frame and len(frame) == 39 and frame["duration"].min() > 0.3
    assert speech.to_arrow(["voice", "id"]).column_names == ["voice", "id"]
    assert speech.failures().to_pylist()[0]["id"] == FAILED
    assert "39 clips" in repr(speech)


def test_clips_have_samples_and_rows(output: Path) -> None:
    speech = pipeline.read(str(output))
    clips = list(speech.clips())
    assert [clip.row["seed"] for clip in clips[:3]] == [0, 1, 2]
    for number in (0, 20):
        clip = speech.clip(IDS.get(number, f"row {number}"))
        assert clip.samples.dtype == np.float32 and clip.sampling_rate == 24_000
        assert np.allclose(clip.samples, samples_of(number), atol=1e-4)
        assert clip.duration_s == clip.row["duration"] and "audio" not in clip.row
    with pytest.raises(KeyError):
        speech.clip("nobody")


def test_clips_are_read_lazily(output: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []
    get = Store.get
    monkeypatch.setattr(Store, "get", lambda store, name: (read.append(name), get(store, name))[1])
    speech = pipeline.read(output)
    read.clear()
    clips = speech.clips()
    assert not read
    next(clips)
    for _ in range(100):  # the other parts are read in threads
        if len(read) >= 4:
            break
        time.sleep(0.1)
    time.sleep(0.2)
    assert len(read) == 4  # parts that are read at the same time; the output has five
    del clips
    gc.collect()


def test_filters_add_up(output: Path) -> None:
    speech = pipeline.read(output).filter("topic = 'topic 1'").filter("score > 2")
    assert len(speech) == 6 and {clip.row["topic"] for clip in speech} == {"topic 1"}
    assert speech.to_arrow(["id"]).num_rows == 6  # conditions may use columns that are not asked for
    assert len(speech.filter("score > 100").to_arrow()) == 0
    with pytest.raises(ConfigError, match="no column scroe"):
        speech.filter("scroe > 1")
    with pytest.raises(ConfigError, match="no column nothing"):
        speech.to_arrow(["nothing"])


def test_html_plays_and_escapes(output: Path, tmp_path: Path) -> None:
    speech = pipeline.read(output)
    html = next(speech.clips())._repr_html_()
    assert '<audio controls preload="metadata" src="data:audio/flac;base64,ZkxhQ' in html
    clip = pipeline.Clip(
        {"id": "<b>", "text": "<script>alert(1)</script>", "num_samples": 1, "sampling_rate": 1}, b"fLaC"
    )
    assert "<script>" not in clip._repr_html_() and "&lt;script&gt;" in clip._repr_html_()
    assert speech._repr_html_().count("<audio") == 5
    next(speech.clips()).save(tmp_path / "clip.flac")
    assert (tmp_path / "clip.flac").read_bytes().startswith(b"fLaC")


def test_unfinished_and_empty_outputs(tmp_path: Path) -> None:
    unfinished = pipeline.read(make_output(tmp_path / "unfinished", committed=2))
    assert len(unfinished) == 15 and unfinished.counts.to_go == 24
    empty = pipeline.read(make_output(tmp_path / "empty", committed=0))
    assert (
        len(empty) == 0 and not list(empty.clips()) and empty.to_arrow().num_rows == 0 and "<p>" in empty._repr_html_()
    )
    with pytest.raises(ConfigError, match="no run in this folder"):
        pipeline.read(tmp_path)


def test_damaged_part_is_named(tmp_path: Path) -> None:
    damaged = make_output(tmp_path / "out")
    (damaged / "data/part-00001.parquet").write_bytes(b"PAR1")
    speech = pipeline.read(damaged)
    for read in (speech.to_arrow, speech.to_pandas, lambda: list(speech.clips())):
        with pytest.raises(ConfigError, match="part-00001"):
            read()


def test_result_shows_a_player(bark: pipeline.Bark) -> None:
    (result,) = bark.generate(["A <b>bold</b> text."], seeds=[1])
    assert "<audio controls" in result._repr_html_() and "&lt;b&gt;" in result._repr_html_()
