"""Croissant that mlcroissant validates and reads, and uploads to a hub on this machine."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.errors import ConfigError
from pipeline.export import plan, push
from pipeline.export.formats import FORMATS
from pipeline.export.job import export
from pipeline.export.settings import ExportSettings, parse_splits
from pipeline.storage.store import Store
from tests.export.hub import Hub, fake_hub


def make(source: Path, dest: Path, format: str, splits: str | None = None) -> Path:
    export(Store(str(source)), Store(str(dest)), ExportSettings(format, splits=parse_splits(splits)))
    return dest


@pytest.mark.slow
def test_croissant_is_valid_and_has_the_rows(finished_output: Path, tmp_path: Path) -> None:
    croissant = pytest.importorskip("mlcroissant")
    for name in FORMATS:
        dest = make(finished_output, tmp_path / name, name, "train=0.7,test=0.3")
        dataset = croissant.Dataset(jsonld=str(dest / "croissant.json"))  # raises ValidationError
        assert not dataset.metadata.ctx.issues.errors
    records = croissant.Dataset(jsonld=str(tmp_path / "hf/croissant.json")).records("train")
    rows = {row["train/id"].decode(): row for row in records}
    assert 20 < len(rows) < 39 and rows["../escape"]["train/text"] == b"=1+1"
    assert rows["../escape"]["train/audio"].startswith(b"fLaC")


def run_push(hub: Hub, folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    env = os.environ | {"HF_ENDPOINT": hub.url, "HF_TOKEN": "hf_secret", "HF_HUB_OFFLINE": "0"}
    env |= {"HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}
    command = [sys.executable, "-m", "pipeline.cli", "push", str(folder), "me/speech", *words]
    return subprocess.run(command, capture_output=True, text=True, env=env, timeout=120, check=False)


@pytest.mark.slow
def test_push_uploads_everything_and_goes_on_after_a_stop(
    finished_output: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plan, "SHARD_BYTES", 60_000)
    dest = make(finished_output, tmp_path / "hf", "hf")
    large = {f"data/{path.name}" for path in (dest / "data").iterdir()}
    assert len(large) > 4
    with fake_hub() as hub:
        hub.refuse_after = 3
        done = run_push(hub, dest)
        assert done.returncode == 1 and "run the same command again" in done.stderr, done.stderr
        assert "Traceback" not in done.stderr and "hf_secret" not in done.stderr
        assert "README.md" not in hub.files and hub.uploads == 3
        hub.refuse_after = None
        done = run_push(hub, dest)
        assert done.returncode == 0 and f"{hub.url}/datasets/me/speech" in done.stdout, done.stderr
        assert hub.uploads == len(large)  # what was there was not uploaded again
        assert set(hub.files) == large | {"README.md", "croissant.json"}
        assert all(hub.files[name] == (dest / name).read_bytes() for name in large)
        card = hub.files["README.md"].decode()
        assert 'load_dataset("me/speech"' in card and "THIS_FOLDER" not in card


@pytest.mark.slow
def test_push_that_the_hub_refuses_is_one_line(finished_output: Path, tmp_path: Path) -> None:
    dest = make(finished_output, tmp_path / "hf", "hf")
    with fake_hub() as hub:
        hub.denied = True
        done = run_push(hub, dest)
    assert done.returncode == 2 and "can't be created on the hub" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1 and "hf_secret" not in done.stderr


def test_only_finished_exports_are_pushed(
    finished_output: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ConfigError, match="is not an export; make one: barkery export OUTPUT hf"):
        push.push(finished_output, "me/speech")
    dest = make(finished_output, tmp_path / "folder", "audiofolder")
    monkeypatch.setattr(push, "MAX_FILES", 20)
    with pytest.raises(ConfigError, match="the hub takes 20 in a folder; use the format hf"):
        push.push(dest, "me/speech")
    (dest / ".barkery/done.json").unlink()
    with pytest.raises(ConfigError, match="not complete"):
        push.push(dest, "me/speech")
