"""The main job on a real Ray: the same sounds as in Python, every row in one place, nothing done twice."""

import io
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import soundfile

from pipeline import Bark, Sampling
from pipeline.bark.long_text import join, segment_seed
from pipeline.bark.text import SegmentLimits
from pipeline.config import RunConfig
from pipeline.errors import ConfigError
from pipeline.flow.driver import run
from pipeline.shards.audio import to_int16
from pipeline.shards.reader import rows
from pipeline.storage.store import Store
from tests.flow.conftest import FAILED, ROWS, SCHEMA

pytestmark = pytest.mark.usefixtures("cluster")
MakeConfig = Callable[..., RunConfig]


def parts(output: str) -> dict[str, bytes]:
    """Every object of an output that must not depend on how it was made."""
    found = (p for p in Path(output).rglob("*") if p.is_file() and "_plan" not in p.parts)
    return {str(p.relative_to(output)): p.read_bytes() for p in found}


def samples_of(row: dict[str, Any]) -> np.ndarray:
    samples, rate = soundfile.read(io.BytesIO(row["audio"]["bytes"]), dtype="int16")
    assert rate == row["sampling_rate"] == 24_000
    return samples


def test_rows_sound_as_in_python_and_each_is_in_one_place(make_config: MakeConfig, bark: Bark) -> None:
    config = make_config()
    summary = run(config)
    assert (summary.num_rows, summary.written, summary.failed) == (len(ROWS), len(ROWS) - len(FAILED), len(FAILED))
    store = Store(config.output)
    written = {row["id"]: row for row in rows(store)}
    failed = {row["id"]: row for row in rows(store, kind="failures")}
    assert written.keys() | failed.keys() == {row["id"] for row in ROWS} and not written.keys() & failed.keys()
    assert {row_id: row["error_type"] for row_id, row in failed.items()} == FAILED
    for given in (row for row in ROWS if row["id"] not in FAILED):
        made = written[given["id"]]
        own = {k: given[k] for k in given if k in vars(Sampling())}
        texts = bark.encoder.split(given["text"], SegmentLimits(max_tokens=200), given.get("language"))
        alone = bark.generate(
            texts,
            voices=[given.get("voice")] * len(texts),
            seeds=[segment_seed(made["seed"], i) for i in range(len(texts))],
            sampling=Sampling(**({"max_semantic_tokens": 40} | own)),
        )
        expected = to_int16(join([result.audio for result in alone], 0.25))
        assert np.array_equal(samples_of(made), expected), given["id"]
        assert made["num_samples"] == expected.size and made["num_segments"] == len(texts)
        assert made["num_semantic_tokens"] == sum(result.semantic.size for result in alone)
        assert made["num_frames"] == sum(result.fine.shape[1] for result in alone)
        assert made["topic"] == f"topic {ROWS.index(given)}"
    assert written["voice"]["seed"] == 7
    assert written["long"]["num_segments"] > 1
    assert written["greedy"]["semantic_temperature"] == 0
    outside = list(Path(config.output).parent.rglob("*escape*"))
    assert not outside


def test_two_actors_per_pool_write_the_same_bytes_as_one(make_config: MakeConfig, tmp_path: Path) -> None:
    pool = {"num_cpus": 1, "slots": 4, "shards_in_flight": 1}
    outputs = []
    for actors in (1, 2):
        pools = dict.fromkeys(("semantic", "coarse", "fine", "decode"), pool | {"actors": actors})
        config = make_config(output=str(tmp_path / f"{actors}"), pools=pools)
        run(config)
        outputs.append(parts(config.output))
    assert outputs[0].keys() == outputs[1].keys() and len(outputs[0]) > 6
    assert outputs[0] == outputs[1]


def test_a_second_run_does_only_what_is_missing(make_config: MakeConfig, capsys: pytest.CaptureFixture[str]) -> None:
    config = make_config()
    run(config)
    before = parts(config.output)
    times = {p: p.stat().st_mtime_ns for p in Path(config.output, "data").iterdir()}
    Path(config.output, "_commits/part-00000.json").unlink()
    run(config)
    assert parts(config.output) == before
    redone = {p.name for p, time in times.items() if p.stat().st_mtime_ns != time}
    assert redone == {"part-00000.parquet"}
    run(config)
    assert "nothing to do" in capsys.readouterr().err


def test_changed_settings_and_rows_are_refused_by_name(make_config: MakeConfig, manifest: Path) -> None:
    config = make_config()
    run(config)
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


def test_datasets_shows_an_audio_column(
    make_config: MakeConfig, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    import datasets

    config = make_config(audio={"format": "wav"})
    run(config)
    found = datasets.load_dataset(config.output, split="train", cache_dir=str(tmp_path / "cache"))
    assert found.features["audio"] == datasets.Audio(sampling_rate=24_000)
    assert len(found) == len(ROWS) - len(FAILED)
    raw = found.cast_column("audio", datasets.Audio(decode=False))[0]["audio"]["bytes"]
    assert raw.startswith(b"RIFF")
    failures = datasets.load_dataset(config.output, "failures", split="train", cache_dir=str(tmp_path / "cache"))
    assert set(failures["id"]) == set(FAILED)


def test_an_autoscaling_pool_runs(make_config: MakeConfig) -> None:
    pools = {"fine": {"actors": {"min": 1, "max": 2}, "num_cpus": 1}, "decode": {"shards_in_flight": 1}}
    summary = run(make_config(pools=pools, limit=4, rows_per_shard=1))
    assert summary.num_rows == 4


def test_the_commit_tells_counts_and_hashes(make_config: MakeConfig) -> None:
    import hashlib

    config = make_config(limit=5)
    run(config)
    commit = json.loads(Path(config.output, "_commits/part-00001.json").read_text())
    assert (commit["written"], commit["failed"], commit["data"]) == (0, 1, None)
    first = json.loads(Path(config.output, "_commits/part-00000.json").read_text())
    content = Path(config.output, "data/part-00000.parquet").read_bytes()
    assert first["data"] == {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}


def test_command_line_exit_codes(make_config: MakeConfig, tmp_path: Path) -> None:
    """0 all written, 3 with failed rows, 2 for a config error, in real processes with a Ray of their own."""
    import yaml

    config = make_config(limit=2).model_dump(mode="json", exclude={"storage_options"})
    for pool in config["pools"].values():
        pool["num_cpus"] = 0.25
    path = tmp_path / "run.yaml"
    path.write_text(yaml.safe_dump(config))

    def generate(*words: str) -> tuple[int, str, str]:
        command = [sys.executable, "-m", "pipeline.cli", "generate", str(path), *words]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
        return done.returncode, done.stdout, done.stderr

    code, out, _ = generate()
    assert code == 0 and "in 2 = written 2 + failed 0" in out
    code, out, err = generate("--limit", "5", "--output", str(tmp_path / "other"))
    assert code == 3 and "in 5 = written 4 + failed 1" in out
    assert "decode" in err and "slots full" in err  # the table by stage
    code, _, err = generate("--set", "sampling.max_semantc_tokens=3")
    assert code == 2 and err.strip().endswith("did you mean max_semantic_tokens?") and "Traceback" not in err
    code, _, err = generate("--manifest", str(tmp_path / "nothing.parquet"))
    assert code == 2 and "nothing.parquet: no such file" in err
