"""A run from config to output: the same samples as in Python, every row in one place, nothing made twice."""

import hashlib
import io
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import soundfile
import yaml

from pipeline import Bark, Sampling
from pipeline.bark.long_text import join, segment_seed
from pipeline.bark.text import SegmentLimits
from pipeline.cli.main import main
from pipeline.config import RunConfig
from pipeline.errors import ConfigError
from pipeline.flow.driver import run
from pipeline.shards.audio import to_int16
from pipeline.shards.reader import rows
from pipeline.storage.store import Store
from tests.flow.conftest import FAILED, ROWS, SCHEMA, FinishedRun, MakeConfig


def parts(output: str | Path) -> dict[str, bytes]:
    """All objects of an output except `_plan`: the ones that must not depend on how they were made."""
    found = (p for p in Path(output).rglob("*") if p.is_file() and "_plan" not in p.parts)
    return {str(p.relative_to(output)): p.read_bytes() for p in found}


def samples_of(row: dict[str, Any]) -> np.ndarray:
    samples, rate = soundfile.read(io.BytesIO(row["audio"]["bytes"]), dtype="int16")
    assert rate == row["sampling_rate"] == 24_000
    return samples


def test_rows_sound_as_in_python_and_each_is_in_one_place(finished_on_ray: FinishedRun, bark: Bark) -> None:
    summary, output = finished_on_ray.summary, finished_on_ray.output
    assert (summary.num_rows, summary.written, summary.failed) == (len(ROWS), len(ROWS) - len(FAILED), len(FAILED))
    store = Store(str(output))
    written = {row["id"]: row for row in rows(store)}
    failed = {row["id"]: row for row in rows(store, kind="failures")}
    assert written.keys() | failed.keys() == {row["id"] for row in ROWS} and not written.keys() & failed.keys()
    assert {row_id: row["error_type"] for row_id, row in failed.items()} == FAILED
    for planned in (row for row in ROWS if row["id"] not in FAILED):
        made = written[planned["id"]]
        own = {k: planned[k] for k in planned if k in vars(Sampling())}
        texts = bark.encoder.split(planned["text"], SegmentLimits(max_tokens=200), planned.get("language"))
        alone = bark.generate(
            texts,
            voices=[planned.get("voice")] * len(texts),
            seeds=[segment_seed(made["seed"], i) for i in range(len(texts))],
            sampling=Sampling(**({"max_semantic_tokens": 40} | own)),
        )
        expected = to_int16(join([result.audio for result in alone], 0.25))
        assert np.array_equal(samples_of(made), expected), planned["id"]
        assert made["num_samples"] == expected.size and made["num_segments"] == len(texts)
        assert made["num_semantic_tokens"] == sum(result.semantic.size for result in alone)
        assert made["num_frames"] == sum(result.fine.shape[1] for result in alone)
        assert made["topic"] == f"topic {ROWS.index(planned)}"
    assert written["voice"]["seed"] == 7
    assert written["long"]["num_segments"] > 1
    assert written["greedy"]["semantic_temperature"] == 0
    outside = list(output.parent.rglob("*escape*"))
    assert not outside


def test_two_actors_per_pool_write_the_same_bytes_as_one(finished: FinishedRun, finished_on_ray: FinishedRun) -> None:
    """Two processes for each pool on Ray; one actor for each pool, and no Ray."""
    one, two = parts(finished.output), parts(finished_on_ray.output)
    assert one.keys() == two.keys() and len(one) > 6
    assert one == two


def test_autoscaling_pool_completes_a_run(finished_on_ray: FinishedRun) -> None:
    """Its fine pool has 2 to 3 actors."""
    assert finished_on_ray.summary.num_rows == len(ROWS) and not finished_on_ray.summary.to_go


@pytest.mark.usefixtures("in_process")
def test_second_run_makes_only_what_is_missing(
    make_config: MakeConfig, finished_on_ray: FinishedRun, capsys: pytest.CaptureFixture[str]
) -> None:
    config = make_config()
    finished_on_ray.copy_to(config.output)
    before = parts(config.output)
    times = {p: p.stat().st_mtime_ns for p in Path(config.output, "data").iterdir()}
    Path(config.output, "_commits/part-00000.json").unlink()
    run(config)
    assert parts(config.output) == before
    redone = {p.name for p, time in times.items() if p.stat().st_mtime_ns != time}
    assert redone == {"part-00000.parquet"}
    run(config)
    assert "nothing to do" in capsys.readouterr().err


def test_changed_settings_and_rows_are_refused_by_name(
    make_config: MakeConfig, finished: FinishedRun, manifest: Path
) -> None:
    config = make_config()
    finished.copy_to(config.output)
    with pytest.raises(ConfigError, match=r"seed was 0, is 1"):
        run(make_config(seed=1))
    with pytest.raises(ConfigError, match=r"sampling\.max_semantic_tokens was 40, is 41"):
        run(make_config(sampling={"max_semantic_tokens": 41}))
    with pytest.raises(ConfigError, match="rows_per_shard 4; it can't become 5"):
        run(make_config(rows_per_shard=5))
    changed = [{**row, "topic": f"topic {i}"} for i, row in enumerate(ROWS)]
    changed[6]["text"] = "Now there is a text."
    pq.write_table(pa.Table.from_pylist(changed, schema=SCHEMA), manifest)
    with pytest.raises(ConfigError, match=r"manifest row 6 \(id 'no text'\) differs"):
        run(config)
    pq.write_table(pa.Table.from_pylist(changed[:5], schema=SCHEMA), manifest)
    with pytest.raises(ConfigError, match="the manifest had 12 rows, has 5"):
        run(config)


@pytest.mark.usefixtures("in_process")
def test_datasets_shows_an_audio_column(make_config: MakeConfig, tmp_path: Path) -> None:
    config = make_config(audio={"format": "wav"})
    run(config)
    found = datasets.load_dataset(config.output, split="train", cache_dir=str(tmp_path / "cache"))
    assert found.features["audio"] == datasets.Audio(sampling_rate=24_000)
    assert len(found) == len(ROWS) - len(FAILED)
    raw = found.cast_column("audio", datasets.Audio(decode=False))[0]["audio"]["bytes"]
    assert raw.startswith(b"RIFF")
    failures = datasets.load_dataset(config.output, "failures", split="train", cache_dir=str(tmp_path / "cache"))
    assert set(failures["id"]) == set(FAILED)


@pytest.mark.usefixtures("in_process")
def test_commit_has_counts_and_hashes(make_config: MakeConfig) -> None:
    config = make_config(limit=5)
    run(config)
    commit = json.loads(Path(config.output, "_commits/part-00001.json").read_text())
    assert (commit["written"], commit["failed"], commit["data"]) == (0, 1, None)
    first = json.loads(Path(config.output, "_commits/part-00000.json").read_text())
    content = Path(config.output, "data/part-00000.parquet").read_bytes()
    assert first["data"] == {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}


OWN_LINES = r"\d+ of \d+ rows to do|starting Ray|loading |4 actors ready|rows \d|stage |(semantic|coarse|fine|decode) |\d+ s of audio"


def write_config(config: RunConfig, folder: Path) -> str:
    """The config as a YAML file; its actors need a quarter of a CPU each."""
    values = config.model_dump(mode="json", exclude={"storage_options"})
    for pool in values["pools"].values():
        pool["num_cpus"] = 0.25
    (folder / "run.yaml").write_text(yaml.safe_dump(values))
    return str(folder / "run.yaml")


def generate(path: str, *options: str) -> tuple[int, str, str]:
    """`barkery generate` in a process of its own: exit code, stdout and stderr."""
    command = [sys.executable, "-m", "pipeline.cli", "generate", path, *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    return done.returncode, done.stdout, done.stderr


@pytest.mark.ray
def test_command_line_starts_its_own_ray_and_exits_with_0(make_config: MakeConfig, tmp_path: Path) -> None:
    code, out, err = generate(write_config(make_config(limit=2), tmp_path))
    assert code == 0 and "in 2 = written 2 + failed 0" in out
    assert "decode" in err and "slots full" in err  # the table by stage
    assert "loading model in 4 actors: 0 ready" in err and "4 actors ready after" in err
    assert not [line for line in err.splitlines() if line and not re.match(OWN_LINES, line)]  # nothing of Ray's


@pytest.mark.slow
def test_command_line_exit_codes_2_and_3(make_config: MakeConfig, finished: FinishedRun, tmp_path: Path) -> None:
    """2 for a config error, 3 for an output that is complete with failed rows: processes that need no Ray."""
    config = make_config()
    path = write_config(config, tmp_path)
    finished.copy_to(config.output)
    code, out, _ = generate(path)
    assert code == 3 and "in 12 = written 6 + failed 6" in out
    code, _, err = generate(path, "--set", "sampling.max_semantc_tokens=3")
    assert code == 2 and err.strip().endswith("did you mean max_semantic_tokens?") and "Traceback" not in err
    code, _, err = generate(path, "--manifest", str(tmp_path / "nothing.parquet"))
    assert code == 2 and "nothing.parquet: no such file" in err


@pytest.mark.usefixtures("in_process")
def test_command_with_failed_rows_ends_with_3_and_shows_the_table(
    make_config: MakeConfig, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    path = write_config(make_config(), tmp_path)
    monkeypatch.setattr("sys.argv", ["barkery", "generate", path, "--limit", "5"])
    with pytest.raises(SystemExit) as ended:
        main()
    out, err = capfd.readouterr()
    assert ended.value.code == 3 and "in 5 = written 4 + failed 1" in out
    assert "decode" in err and "slots full" in err
