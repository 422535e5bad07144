"""An output of release 0.1.0 (tests/data/README.md) is read, accepted for a resume, and planned for a retry."""

import json
import zipfile
from pathlib import Path

import pytest

from pipeline.config import RunConfig, load_config
from pipeline.errors import ConfigError
from pipeline.flow.planning import ModelInfo, absolute, plan_manifest, settings_of_retry
from pipeline.shards import plan as plans
from pipeline.shards.reader import commits, count_rows, rows
from pipeline.shards.verify import status, verify
from pipeline.storage.store import Store

ARCHIVE = Path(__file__).parent.parent / "data" / "output-0.1.0.zip"


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunConfig:
    """The config that made the output, beside a copy of the output."""
    with zipfile.ZipFile(ARCHIVE) as archive:
        archive.extractall(tmp_path)
    monkeypatch.chdir(tmp_path)
    return absolute(load_config("run.yaml"))


def test_is_read_without_a_problem(config: RunConfig) -> None:
    store = Store(config.output)
    report = verify(store)
    assert (report.problems, report.notes, report.missing_shards, report.clips) == ([], [], 1, 4)
    assert str(report.counts) == "in 8 = written 4 + failed 1 + to go 3"
    assert "shards   2 of 3" in list(status(store).lines)
    assert [row["id"] for row in rows(store)] == ["row 0", "row 2", "row 6", "row 7"]
    assert all(commit.environments == {} for commit in commits(store))


def test_resume_is_accepted(config: RunConfig) -> None:
    """The plan in the output is used: neither the format version nor an identity key is missing."""
    store = Store(config.output)
    before = store.get("_plan/run.json")
    (plan,) = plan_manifest(config, store, ModelInfo.check(config))
    assert (plan.num_rows, plan.rows_per_shard, plan.generation) == (8, 3, 0)
    assert "format_version" not in json.loads(before) and store.get("_plan/run.json") == before


def test_every_new_identity_key_has_a_default(config: RunConfig) -> None:
    """Add a new key to `IDENTITY_DEFAULTS`, with the value that release 0.1.0 used in its place."""
    old = plans.flatten(plans.open_plans(Store(config.output))[0].identity)
    new = plans.flatten(ModelInfo.check(config).identity(config))
    assert new.keys() == old.keys() | plans.IDENTITY_DEFAULTS.keys()


def test_missing_identity_key_takes_its_default(config: RunConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    """As if `segments.pause_s` had been added after the output was made."""
    store = Store(config.output)
    content = json.loads(store.get("_plan/run.json"))
    del content["identity"]["segments"]["pause_s"]
    store.put("_plan/run.json", json.dumps(content).encode())
    model = ModelInfo.check(config)
    with pytest.raises(ConfigError, match=r"segments\.pause_s was None, is 0\.25"):
        plan_manifest(config, store, model)
    monkeypatch.setitem(plans.IDENTITY_DEFAULTS, "segments.pause_s", 0.25)
    assert len(plan_manifest(config, store, model)) == 1
    changed = config.model_copy(update={"segments": config.segments.model_copy(update={"pause_s": 1.0})})
    with pytest.raises(ConfigError, match=r"segments\.pause_s was 0\.25, is 1\.0; use a new output folder"):
        plan_manifest(changed, store, model)


@pytest.mark.parametrize("generation", [0, 1])
def test_newer_format_is_refused_by_name(config: RunConfig, generation: int) -> None:
    store = Store(config.output)
    content = json.loads(store.get("_plan/run.json"))
    newer = content | {"format_version": plans.FORMAT_VERSION + 1, "barkery": "7.0", "files": "in another form"}
    store.put(plans.run_file(generation), json.dumps(newer).encode())
    expected = rf"run\.json: has format_version {plans.FORMAT_VERSION + 1}, written by barkery 7\.0; .*install a newer"
    for read in (status, verify, lambda store: plan_manifest(config, store, ModelInfo.check(config))):
        with pytest.raises(ConfigError, match=expected):
            read(store)


def test_retry_starts_from_the_saved_settings(config: RunConfig) -> None:
    store = Store(config.output)
    (plan,) = plans.open_plans(store)
    now = count_rows([plan], commits(store))
    with pytest.raises(ConfigError, match="3 rows are still to go"):
        settings_of_retry(store, [plan], now, None, [])
    complete = type(now)(now.num_rows, now.written + now.to_go, now.failed)
    again = settings_of_retry(store, [plan], complete, None, [f"model={config.model}"])
    assert (again.seed, again.sampling, again.pools) == (config.seed + 1, config.sampling, config.pools)
