"""Each format is loaded by the program that it is for, unpatched, and sounds as the output's parts do.

Versions: datasets 5.2.0, webdataset 1.0.2, lhotse 1.33.0, torchcodec 0.13.0; NeMo's rules are checked by its own patterns.
"""

import csv
import json
import re
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from pipeline.export.clips import safe_key
from pipeline.export.job import export
from pipeline.export.settings import ExportSettings, parse_splits
from pipeline.storage.store import Store
from tests.export.conftest import decode

Sounds = dict[str, np.ndarray]


def make(source: Path, dest: Path, format: str, **settings: Any) -> Path:
    export(Store(str(source)), Store(str(dest)), ExportSettings(format, **settings))
    return dest


def same(samples: Any, expected: np.ndarray) -> bool:
    """Whether decoded floats or int16 equal int16 samples."""
    array = np.asarray(samples).reshape(-1)
    scaled = array if array.dtype == np.int16 else np.rint(array * 32768).astype(np.int64)
    return np.array_equal(scaled, expected)


@pytest.fixture
def load(tmp_path: Path) -> Any:
    import datasets

    try:
        import torchcodec  # noqa: F401
    except (ImportError, RuntimeError):
        pytest.skip("datasets decodes sound by torchcodec, which needs FFmpeg's libraries: apt-get install ffmpeg")
    return lambda path, **more: datasets.load_dataset(str(path), cache_dir=str(tmp_path / "cache"), **more)


def test_hf_has_splits_typed_audio_and_the_same_samples(
    finished_output: Path, sounds: Sounds, tmp_path: Path, load: Any
) -> None:
    import datasets

    dest = make(finished_output, tmp_path / "hf", "hf", splits=parse_splits("train=0.7,test=0.3"))
    found = load(dest)
    assert set(found) == {"train", "test"}
    seen: list[str] = []
    for split in found.values():
        assert split.features["audio"] == datasets.Audio(sampling_rate=24_000)
        for row in split:
            assert same(row["audio"].get_all_samples().data, sounds[row["id"]])
            seen.append(row["id"])
    assert sorted(seen) == sorted(sounds)
    row = next(row for row in found["train"] if row["origin"])
    assert row["origin"]["book"] == "b" and row["ai_generated"] is True
    assert {path.name for path in (dest / "data").iterdir()} == {
        "train-00000-of-00001.parquet",
        "test-00000-of-00001.parquet",
    }


def test_hf_has_the_hubs_layout(finished_output: Path, tmp_path: Path) -> None:
    dest = make(finished_output, tmp_path / "hf", "hf")
    metadata = pq.read_metadata(dest / "data/train-00000-of-00001.parquet")
    columns = {
        metadata.row_group(0).column(i).path_in_schema: metadata.row_group(0).column(i)
        for i in range(metadata.num_columns)
    }
    assert columns["audio.bytes"].compression == "UNCOMPRESSED" and columns["text"].compression == "SNAPPY"
    assert columns["audio.bytes"].encodings == ("RLE", "PLAIN")  # levels, values
    assert all(column.has_offset_index for column in columns.values())


def test_hf_row_groups_and_shards_are_bounded(
    finished_output: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pipeline.export import plan
    from pipeline.export.formats import hf

    monkeypatch.setattr(hf, "GROUP_BYTES", 60_000)
    monkeypatch.setattr(plan, "SHARD_BYTES", 150_000)
    dest = make(finished_output, tmp_path / "hf", "hf")
    names = sorted(path.name for path in (dest / "data").iterdir())
    assert len(names) > 2 and names[-1] == f"train-{len(names) - 1:05d}-of-{len(names):05d}.parquet"
    metadata = [pq.read_metadata(dest / "data" / name) for name in names]
    assert sum(each.num_rows for each in metadata) == 39
    assert any(each.num_row_groups > 1 for each in metadata)


def test_webdataset_is_read_by_webdataset(finished_output: Path, sounds: Sounds, tmp_path: Path) -> None:
    webdataset = pytest.importorskip("webdataset")
    dest = make(finished_output, tmp_path / "wds", "webdataset")
    found = {}
    for sample in webdataset.WebDataset(str(dest / "audio_000000.tar"), shardshuffle=False).decode():
        found[sample["json"]["id"]] = sample
        assert "." not in sample["__key__"]
    assert found.keys() == sounds.keys()
    assert all(same(decode(sample["flac"])[0], sounds[name]) for name, sample in found.items())
    assert found["row 9"]["json"]["score"] is None and found["row 10"]["json"]["origin"] == {"book": "b", "page": 10}


def test_webdataset_is_read_by_datasets(finished_output: Path, sounds: Sounds, tmp_path: Path, load: Any) -> None:
    """The first rows have no language: without the card's types, `datasets` would take the column for null."""
    dest = make(finished_output, tmp_path / "wds", "webdataset", splits=parse_splits("train=0.5,validation=0.5"))
    found = load(dest)
    rows = [row for split in ("train", "validation") for row in found[split]]
    assert sorted(row["json"]["id"] for row in rows) == sorted(sounds)
    assert all(same(row["flac"].get_all_samples().data, sounds[row["json"]["id"]]) for row in rows)
    assert {row["json"]["language"] for row in rows} == {None, "en"}


def test_tar_bytes_follow_from_the_rows(finished_output: Path, tmp_path: Path) -> None:
    one = make(finished_output, tmp_path / "one", "webdataset", codec="opus")
    two = make(finished_output, tmp_path / "two", "webdataset", codec="opus")
    assert (one / "audio_000000.tar").read_bytes() == (two / "audio_000000.tar").read_bytes()


def test_nemo_manifests_name_the_members_of_their_tar(finished_output: Path, sounds: Sounds, tmp_path: Path) -> None:
    """The patterns are those of NeMo's `LazyNeMoTarredIterator` (nemo/collections/common/data/lhotse/nemo_adapters.py)."""
    dest = make(finished_output, tmp_path / "nemo", "nemo", splits=parse_splits("train=0.5,test=0.5"))
    seen = []
    for split in ("train", "test"):
        (tar_path,) = (p for p in (dest / split).iterdir() if re.search(r"audio[^/]*_(\d+)[^/]*\.tar", str(p)))
        (manifest,) = (p for p in (dest / split).iterdir() if re.search(r"manifest[^/]*_(\d+)[^/]*\.json", str(p)))
        rows = {row["audio_filepath"]: row for row in map(json.loads, manifest.read_text().splitlines())}
        with tarfile.open(tar_path) as tar:
            for member in tar:
                if member.name.endswith(".json"):
                    continue
                row, file = rows.pop(member.name), tar.extractfile(member)
                assert file is not None and row["shard_id"] == 0
                samples, rate = decode(file.read())
                assert same(samples, sounds[row["id"]]) and row["duration"] == len(samples) / rate
                seen.append(row["id"])
        assert not rows
    assert sorted(seen) == sorted(sounds)


def test_audiofolder_is_read_by_datasets(finished_output: Path, sounds: Sounds, tmp_path: Path, load: Any) -> None:
    for number, splits in enumerate((None, "train=0.6,test=0.4")):
        dest = make(finished_output, tmp_path / f"folder{number}", "audiofolder", splits=parse_splits(splits))
        rows = [row for split in load(dest).values() for row in split]
        assert sorted(row["id"] for row in rows) == sorted(sounds)
        assert all(same(row["audio"].get_all_samples().data, sounds[row["id"]]) for row in rows)
        quoted = next(row for row in rows if row["id"] == "book.v1.0001")
        assert quoted["text"] == 'He said "yes" and left.'


def test_ljspeech_is_what_trainers_expect(finished_output: Path, sounds: Sounds, tmp_path: Path, load: Any) -> None:
    dest = make(finished_output, tmp_path / "lj", "ljspeech", sample_rate=22_050)
    with (dest / "metadata.csv").open(newline="") as file:
        lines = list(csv.reader(file, delimiter="|", quoting=csv.QUOTE_NONE))
    assert len(lines) == len(sounds) and all(len(line) == 3 for line in lines)
    texts = {line[0]: line[1] for line in lines}
    assert texts["plain"] == "A pipe and a comma, here." and texts[safe_key("with space")] == "tab and line"
    for row_id, samples in sounds.items():
        found, rate = decode((dest / "wavs" / f"{safe_key(row_id)}.wav").read_bytes())
        assert rate == 22_050 and abs(len(found) - len(samples) * 22_050 / 24_000) <= 1
    rows = list(load(dest, split="train"))
    assert {row["id"]: row["text"] for row in rows}["plain"] == "A pipe | and a comma, here."
    assert rows[0]["audio"].get_all_samples().sample_rate == 22_050


@pytest.fixture
def lhotse() -> Any:
    """Lhotse, reading sound by soundfile: it would try torchaudio first, whose CUDA build fails on a CPU build of torch."""
    module = pytest.importorskip("lhotse")
    module.set_current_audio_backend("LibsndfileBackend")
    return module


def test_lhotse_reads_shar(lhotse: Any, finished_output: Path, sounds: Sounds, tmp_path: Path) -> None:
    dest = make(finished_output, tmp_path / "shar", "lhotse")
    cuts = list(lhotse.CutSet.from_shar(in_dir=str(dest / "train")))
    assert {cut.id for cut in cuts} == {safe_key(row_id) for row_id in sounds}
    for cut in cuts:
        (supervision,) = cut.supervisions
        assert same(cut.load_audio(), sounds[supervision.custom["id"]])
        assert supervision.text and supervision.speaker == supervision.custom["voice"]


def test_lhotse_reads_kaldis_folder(lhotse: Any, finished_output: Path, sounds: Sounds, tmp_path: Path) -> None:
    from lhotse import kaldi

    dest = make(finished_output, tmp_path / "kaldi", "kaldi")
    recordings, supervisions, _ = kaldi.load_kaldi_data_dir(dest, sampling_rate=24_000)
    by_key = {safe_key(row_id): samples for row_id, samples in sounds.items()}
    assert len(recordings) == len(supervisions) == len(sounds)
    for supervision in supervisions:
        speaker = supervision.speaker
        key = supervision.id if supervision.id == speaker else supervision.id.removeprefix(f"{speaker}-")
        assert same(recordings[supervision.recording_id].load_audio(), by_key[key])
        assert "\n" not in supervision.text
    for name in ("wav.scp", "text", "utt2spk", "spk2utt", "segments"):
        lines = (dest / name).read_bytes().splitlines()
        assert lines == sorted(lines) and lines, name


@pytest.mark.parametrize("codec", ["wav", "mp3", "opus"])
def test_codecs_keep_the_sound(finished_output: Path, sounds: Sounds, tmp_path: Path, codec: str) -> None:
    dest = make(finished_output, tmp_path / codec, "hf", codec=codec, sample_rate=16_000)
    table = pq.read_table(dest / "data/train-00000-of-00001.parquet")
    for row in table.to_pylist():
        samples, rate = decode(row["audio"]["bytes"])
        assert (rate, row["sampling_rate"]) == (16_000, 16_000) and row["audio"]["path"].endswith(f".{codec}")
        assert abs(row["duration"] - sounds[row["id"]].size / 24_000) < 1e-3
        assert abs(len(samples) - row["num_samples"]) <= (0 if codec == "wav" else 4 * 1152)
        loudness = [np.sqrt(np.mean(np.square(x, dtype=np.float64))) for x in (samples, sounds[row["id"]])]
        assert loudness[0] == pytest.approx(loudness[1], rel=0.25)
