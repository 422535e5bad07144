"""An export resumes after kills, refuses what it must not touch, and ends with one line on an output it can't use."""

import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.cli.main import main
from pipeline.errors import ConfigError, IncompleteError, StorageError
from pipeline.export import job, plan
from pipeline.export.clips import safe_key
from pipeline.export.formats import FORMATS
from pipeline.export.job import export
from pipeline.export.plan import from_ranges, to_ranges
from pipeline.export.select import pieces_of, split_of_rows
from pipeline.export.settings import ExportSettings, parse_splits
from pipeline.storage.store import Store
from tests.export.conftest import make_output


def run(source: Path, dest: Path, format: str = "webdataset", **settings: Any) -> job.ExportResult:
    return export(Store(str(source)), Store(str(dest)), ExportSettings(format, **settings))


def files(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


KILLED = """
import os, sys
from pipeline.export import job, plan
plan.SHARD_BYTES = 60_000
job.FORMATS["{format}"].__class__.write = (lambda old: lambda self, dest, plan, shard, clips: (
    old(self, dest, plan, shard, clips), os.kill(os.getpid(), 9) if shard.number == 2 else None)[0]
)(job.FORMATS["{format}"].__class__.write)
from pipeline.cli.main import main
sys.argv[1:] = ["export", {source!r}, "{format}", {dest!r}]
main()
"""


@pytest.mark.slow
@pytest.mark.parametrize("format", FORMATS)
def test_killed_export_goes_on_and_makes_the_same_bytes(
    finished_output: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, format: str
) -> None:
    """It is killed after it wrote the third shard and before it committed that."""
    monkeypatch.setattr(plan, "SHARD_BYTES", 60_000)
    dest = tmp_path / "export"
    code = KILLED.format(format=format, source=str(finished_output), dest=str(dest))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert len(list((dest / ".barkery/commits").iterdir())) == 2
    result = run(finished_output, dest, format)
    assert 0 < result.new_rows < result.rows == 39
    killed = files(dest)
    dest.rename(tmp_path / "killed")  # Kaldi's tables have paths, so the other export goes to the same place
    run(finished_output, dest, format)
    assert killed == files(dest)
    again = run(finished_output, dest, format)
    assert again.new_rows == 0 and again.rows == 39


def test_source_is_not_changed(tmp_path: Path) -> None:
    source = make_output(tmp_path / "out")
    before = files(source)
    run(source, tmp_path / "export", where="duration > 0.5")
    assert files(source) == before


def test_exports_committed_rows_of_a_run_in_progress(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    source = make_output(tmp_path / "out", committed=3)
    (source / "data/part-00004.parquet").write_bytes(b"a part that is being written")
    assert run(source, tmp_path / "export").rows == 23
    make_output(tmp_path / "later")  # the run goes on
    for name in ("data", "_commits", "failures"):
        for path in (tmp_path / "later" / name).glob("*"):
            (source / name).mkdir(exist_ok=True)
            (source / name / path.name).write_bytes(path.read_bytes())
    again = run(source, tmp_path / "export")
    assert (again.rows, again.new_rows) == (23, 0)


def test_where_chooses_rows(finished_output: Path, tmp_path: Path) -> None:
    result = run(finished_output, tmp_path / "export", "hf", where="topic = 'topic 1' AND origin.page > 20")
    table = pq.read_table(tmp_path / "export/data")
    assert result.rows == len(table) == 6
    assert all(row["topic"] == "topic 1" and row["origin"]["page"] > 20 for row in table.to_pylist())


@pytest.mark.parametrize(
    "condition, message",
    [
        ("durtion > 1", "there is no column durtion; known are id, text"),
        ("random() < 0.5", "another value each time"),
        ("current_date > day", "no column current_date"),
        ("duration > (SELECT avg(duration) FROM rows)", "without subqueries"),
        ("1=1; DROP TABLE rows", "not a valid SQL condition"),
        ("duration >", "not a valid SQL condition"),
        ("", "empty"),
        ("read_text('/etc/passwd') IS NOT NULL", "table function"),
        ("duration > 'abc'", "Could not convert string"),
        ("duration > 1e9", "no row meets the condition"),
        ("audio IS NOT NULL", "no column audio"),
    ],
)
def test_bad_condition_is_refused(finished_output: Path, tmp_path: Path, condition: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        run(finished_output, tmp_path / "export", where=condition)
    assert not (tmp_path / "export/audio_000000.tar").exists()


def test_split_by_keeps_a_value_in_one_split_and_is_the_same_in_every_export() -> None:
    rng = np.random.default_rng(0)
    table = pa.table(
        {"id": [f"row {i}" for i in range(20_000)], "voice": [f"v{i}" for i in rng.integers(0, 500, 20_000)]}
    )
    by_voice = ExportSettings("hf", splits=parse_splits("train=0.9,test=0.1"), split_by="voice")
    chosen = split_of_rows(table, by_voice)
    voices = np.array(table["voice"])
    assert not set(voices[chosen == 0]) & set(voices[chosen == 1])
    by_id = split_of_rows(table, ExportSettings("hf", splits=parse_splits("train=0.98,test=0.02")))
    assert np.mean(by_id == 1) == pytest.approx(0.02, abs=0.003)
    order = rng.permutation(20_000)
    assert np.array_equal(split_of_rows(table.take(order), by_voice), chosen[order])
    with_third = split_of_rows(table, ExportSettings("hf", splits=parse_splits("train=0.9,dev=0.05,test=0.05")))
    without = split_of_rows(table, ExportSettings("hf", splits=parse_splits("train=0.9,test=0.1")))
    assert np.array_equal(with_third == 0, without == 0)  # a test set that is split further keeps its rows


@pytest.mark.parametrize(
    "text", ["train", "train=x", "train=0.5,train=0.5", "train=0.5", "../x=1", "a=-1,b=2", "train=nan"]
)
def test_bad_splits_are_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="--split"):
        parse_splits(text)


def test_split_without_rows_is_refused(finished_output: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="split tiny has no row; language has too few values"):
        run(finished_output, tmp_path / "e", splits=parse_splits("train=0.999999,tiny=0.000001"), split_by="language")


def test_long_part_is_cut_into_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.export.select.PIECE_SAMPLES", 1000)
    lengths, mask = np.full(100, 300), np.arange(100) % 5 != 0
    pieces = pieces_of(7, lengths, mask)
    assert len(pieces) > 10 and sum(piece.rows for piece in pieces) == 80
    assert all(piece.samples <= 1300 for piece in pieces)
    assert [piece.start for piece in pieces[1:]] == [piece.stop for piece in pieces[:-1]]


def test_other_content_and_other_settings_are_refused(finished_output: Path, tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full/thesis.docx").write_bytes(b"precious")
    with pytest.raises(ConfigError, match="holds something else"):
        run(finished_output, tmp_path / "full")
    assert files(tmp_path / "full") == {"thesis.docx": b"precious"}
    run(finished_output, tmp_path / "export")
    with pytest.raises(ConfigError, match="codec was None, is 'mp3'"):
        run(finished_output, tmp_path / "export", codec="mp3")
    other = make_output(tmp_path / "other", committed=2)
    with pytest.raises(ConfigError, match="export of other rows"):
        run(other, tmp_path / "export")
    with pytest.raises(ConfigError, match="in the output"):
        run(finished_output, finished_output / "export")


def damage_part(output: Path) -> None:
    path = output / "data/part-00002.parquet"
    content = bytearray(path.read_bytes())
    content[50] ^= 1
    path.write_bytes(content)


DAMAGES = {
    "a missing part": lambda o: (o / "data/part-00002.parquet").unlink(),
    "a cut part": lambda o: (o / "data/part-00002.parquet").write_bytes(
        (o / "data/part-00002.parquet").read_bytes()[:999]
    ),
    "a flipped bit": damage_part,
    "an empty part": lambda o: (o / "data/part-00002.parquet").write_bytes(b""),
    "a damaged commit": lambda o: (o / "_commits/part-00002.json").write_text("{"),
    "a damaged plan": lambda o: (o / "_plan/run.json").write_text("[]"),
}


def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str]:
    """The exit code of `barkery WORDS`, and what it wrote to stderr."""
    monkeypatch.setattr("sys.argv", ["barkery", *words])
    with pytest.raises(SystemExit) as ended:
        main()
    return int(ended.value.code or 0), capsys.readouterr().err


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_output_is_one_line_and_exit_code_2(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], damage: str
) -> None:
    source = make_output(tmp_path / "out")
    DAMAGES[damage](source)
    code, err = command(monkeypatch, capsys, "export", str(source), "hf", str(tmp_path / "export"))
    errors = [line for line in err.splitlines() if line.startswith("error: ")]
    assert code == 2 and len(errors) == 1 and "Traceback" not in err
    assert "part-00002" in errors[0] or "run.json" in errors[0]


def test_output_without_a_row_or_plan_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    source = make_output(tmp_path / "out", committed=0)
    code, err = command(monkeypatch, capsys, "export", str(source), "hf", str(tmp_path / "export"))
    assert code == 2 and "no row is written yet" in err and not (tmp_path / "export").exists()
    code, err = command(monkeypatch, capsys, "export", str(tmp_path / "nothing"), "hf", str(tmp_path / "export"))
    assert code == 2 and "no run in this folder" in err
    finished = make_output(tmp_path / "finished")
    for words, message in [
        (("excel",), "unknown format 'excel'"),
        (("hf", "--codec", "aac"), "unknown codec 'aac'"),
        (("hf", "--sample-rate", "3"), "from 4,000"),
        (("hf", "--sample-rate", "11025", "--codec", "opus"), "opus has no 11,025 Hz"),
        (("hf", "--split", "a=0.5,b=0.5", "--split-by", "vioce"), "no column vioce"),
    ]:
        format, *options = words
        code, err = command(monkeypatch, capsys, "export", str(finished), format, str(tmp_path / "export"), *options)
        assert code == 2 and message in err, err


def test_full_disk_is_an_incomplete_export(
    finished_output: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise StorageError("/data: no space left")

    monkeypatch.setattr(FORMATS["hf"].__class__, "write", full)
    with pytest.raises(IncompleteError, match="no space left; fix that and run the same command again"):
        run(finished_output, tmp_path / "export", "hf")


def test_more_than_nine_thousand_files_are_spread_over_folders(
    finished_output: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.export.formats.folders.FLAT", 10)
    monkeypatch.setattr("pipeline.export.formats.folders.IN_FOLDER", 10)
    run(finished_output, tmp_path / "export", "ljspeech")
    folders = sorted((tmp_path / "export/wavs").iterdir())
    assert [len(list(folder.iterdir())) for folder in folders if folder.is_dir()] == [10, 10, 10, 9]
    first = (tmp_path / "export/metadata.csv").read_text().splitlines()[0]
    assert first.startswith("000000/plain|")
    assert (tmp_path / "export/wavs" / f"{first.split('|')[0]}.wav").exists()


def test_keys_are_safe_and_different() -> None:
    ids = [
        "a",
        "A.b",
        "A_b",
        "A b",
        "../../etc/passwd",
        "",
        "ü",
        "a\nb",
        "A_b--0123456789abcdef",
        "con",
        "x" * 500,
        "-rf",
        ".",
    ]
    keys = [safe_key(each) for each in ids]
    assert len(set(keys)) == len(ids)
    assert all(key[0].isalnum() and key.replace("-", "").replace("_", "").isalnum() and len(key) < 100 for key in keys)
    assert safe_key(keys[1]) != keys[1]  # an id that looks like the key of another one


def test_ranges() -> None:
    assert to_ranges([0, 1, 2, 5, 7, 8]) == "0-2,5,7-8" and from_ranges("0-2,5,7-8") == {0, 1, 2, 5, 7, 8}


def test_card_says_what_is_there(finished_output: Path, tmp_path: Path) -> None:
    import yaml

    run(finished_output, tmp_path / "export", "hf")
    text = (tmp_path / "export/README.md").read_text()
    head = yaml.safe_load(text.split("---\n")[1])
    assert head["language"] == ["en"] and head["size_categories"] == ["n<1K"]
    assert "39 machine-generated clips" in text and "no person said these words" in text
    assert str(tmp_path) not in text and str(finished_output) not in text
