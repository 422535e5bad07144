"""`barkery retry`: only rows that failed, as a generation of its own; the earlier failures stay on record."""

from pathlib import Path

import pytest

from pipeline.cli.main import main
from pipeline.errors import ConfigError, IncompleteError
from pipeline.flow.driver import retry, run
from pipeline.flow.planning import settings_to_save
from pipeline.shards.reader import rows
from pipeline.shards.verify import status, verify
from pipeline.storage.store import Store
from tests.flow.conftest import FAILED, ROWS, FinishedRun, MakeConfig
from tests.flow.test_driver import parts

pytestmark = pytest.mark.usefixtures("in_process")


def test_failed_rows_become_a_generation(make_config: MakeConfig, finished: FinishedRun) -> None:
    config = make_config()
    finished.copy_to(config.output)
    first, store = finished.summary, Store(config.output)
    before = {name: data for name, data in parts(config.output).items() if name != "README.md"}  # the card is rewritten
    second = retry(store, None, ["sampling.allow_early_stop=false"])  # EOS was the first token of `mute`
    after = parts(config.output)
    assert {name: after[name] for name in before} == before  # nothing of the first run is touched
    assert (second.num_rows, second.to_go) == (len(ROWS), 0)
    assert (second.written, second.failed) == (first.written + 1, first.failed - 1)
    tried = list(rows(store, kind="failures"))
    assert {r["id"] for r in tried if r["generation"] == 0} == set(FAILED)
    assert {r["id"] for r in tried if r["generation"] == 1} == set(FAILED) - {"mute"}
    (spoken,) = (r for r in rows(store) if r["id"] in FAILED)
    assert (spoken["id"], spoken["allow_early_stop"]) == ("mute", False)
    assert spoken["seed"] != next(r["seed"] for r in tried if r["id"] == "mute")
    report = verify(store)
    assert not report.problems and str(report.counts) == str(second) == str(run(config))
    assert f"retries  1, the last one of {len(FAILED)} rows" in list(status(store).lines)

    # an interrupted retry can be resumed, but not changed
    last = max(Path(config.output, "_commits").iterdir())
    last.unlink()
    with pytest.raises(ConfigError, match="the last retry is not complete"):
        retry(store, 5, [])
    with pytest.raises(IncompleteError, match="to go 2: run `barkery retry` again"):
        run(config)
    again = retry(store, None, ["sampling.allow_early_stop=false"])  # the same settings
    assert str(again) == str(second) and parts(config.output) == after
    # the next retry takes the rows that still fail
    third = retry(store, 77, [])
    assert str(third) == str(second) and verify(store).problems == []
    assert sum(r["generation"] == 2 for r in rows(store, kind="failures")) == len(FAILED) - 1


def test_changes_that_a_retry_cannot_make_are_refused(make_config: MakeConfig) -> None:
    config = make_config(limit=5)
    store = Store(config.output)
    with pytest.raises(ConfigError, match="no run in this folder"):
        retry(store, None, [])
    run(config)
    for key in ("manifest=x", "limit=3", "output=y"):
        with pytest.raises(ConfigError, match=f"{key.partition('=')[0]} can't be changed by a retry"):
            retry(store, None, [key])
    with pytest.raises(ConfigError, match="did you mean top_k"):
        retry(store, None, ["sampling.topk=3"])
    Path(config.output, "_commits/part-00000.json").unlink()
    with pytest.raises(ConfigError, match="4 rows are still to go: finish them with `barkery generate`"):
        retry(store, None, [])


def test_nothing_to_retry(
    make_config: MakeConfig, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    config = make_config(limit=2)
    run(config)
    monkeypatch.setattr("sys.argv", ["barkery", "retry", config.output])
    with pytest.raises(SystemExit) as ended:
        main()
    assert "no failed rows: nothing to do" in capsys.readouterr().err
    assert ended.value.code == 0 and not list(Path(config.output, "_plan").glob("retry*"))


def test_passwords_in_urls_are_not_saved(make_config: MakeConfig) -> None:
    config = make_config(manifest="https://me:SECRET@example.org/m.parquet", storage_options={"secret": "SECRET"})
    assert (
        "SECRET" not in str(settings_to_save(config))
        and settings_to_save(config)["manifest"] == "https://example.org/m.parquet"
    )
