"""Resumes of an output that release 0.1.0 left incomplete (tests/data/README.md)."""

import zipfile
from pathlib import Path

import pytest

from pipeline.config import RunConfig, load_config
from pipeline.flow.driver import run
from pipeline.shards.environment import environment_ids, read_environment, save_environment
from pipeline.shards.reader import commits, rows
from pipeline.shards.verify import verify
from pipeline.storage.store import Store
from tests.flow.test_driver import parts

ARCHIVE = Path(__file__).parent.parent / "data" / "output-0.1.0.zip"
STAGES = ["semantic", "coarse", "fine", "decode"]


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunConfig:
    """The config that made the output, beside a copy of the output."""
    with zipfile.ZipFile(ARCHIVE) as archive:
        archive.extractall(tmp_path)
    monkeypatch.chdir(tmp_path)
    return load_config("run.yaml")


def resume(config: RunConfig) -> Store:
    """Resume the output: what was committed is unchanged, and shard 1 is made."""
    before = parts("out")
    assert str(run(config)) == "in 8 = written 7 + failed 1"
    after = parts("out")
    before.pop("README.md")  # the card is written again, with statistics
    after.pop("README.md")
    assert {name: after[name] for name in before} == before
    assert sorted(after.keys() - before.keys()) == ["_commits/part-00001.json", "data/part-00001.parquet"]
    store = Store(str(Path("out").absolute()))
    assert [row["id"] for row in rows(store)] == ["row 0", *(f"row {i}" for i in range(2, 8))]
    return store


@pytest.mark.usefixtures("cluster")
def test_resumes_on_ray(config: RunConfig) -> None:
    store = resume(config)
    old, new, _ = commits(store)
    assert old.environments == {} and list(new.environments) == STAGES
    assert set(new.environments.values()) == environment_ids(store)  # one machine, one environment
    report = verify(store)
    assert report.problems == [] and report.missing_shards == 0
    assert "not recorded (made by an older barkery)" in "\n".join(report.notes)


@pytest.mark.usefixtures("in_process")
def test_resume_warns_once_of_another_environment(config: RunConfig, capsys: pytest.CaptureFixture[str]) -> None:
    store = resume(config)
    assert capsys.readouterr().err.count("the shards made before name no environment") == 1
    made = parts("out")

    store.remove("_commits/part-00001.json")
    run(config)
    assert "environment" not in capsys.readouterr().err  # the same one as before

    # as if another release of torch had made the shards before
    (here,) = environment_ids(store)
    save_environment(store, read_environment(store, here) | {"torch": "2.0.0"})
    store.remove(f"_plan/environments/{here}.json")
    for shard in (0, 1):
        store.remove(f"_commits/part-0000{shard}.json")
    run(config)
    err = capsys.readouterr().err
    assert err.count("was begun in another environment (torch 2.0.0), now it is (torch ") == 1
    assert "shards made now may differ in low bits" in err
    assert parts("out").keys() == made.keys() and verify(store).problems == []
