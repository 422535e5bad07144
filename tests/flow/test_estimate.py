"""`barkery plan` says what a run will be; `--budget-hours` stops a run in order."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.cli.main import main
from pipeline.errors import ConfigError, IncompleteError
from pipeline.estimate.estimate import fit, plan_run
from pipeline.flow.driver import run
from pipeline.report.page import make_report
from pipeline.shards.estimate import read_estimate
from pipeline.storage.store import Store
from tests.flow.conftest import FAILED, ROWS, FinishedRun, MakeConfig
from tests.flow.test_driver import parts, write_config


def test_estimate_counts_what_can_be_known_before(make_config: MakeConfig) -> None:
    config = make_config()
    planned = plan_run(config)
    e = planned.estimate
    assert (e.rows, e.sampled_rows, e.shards, e.split_rows) == (len(ROWS), len(ROWS), 3, 2)
    assert e.failing_rows == len(FAILED) - 1  # all but the one of which only the model can tell
    assert e.failures == {"empty_text": 2, "cannot_split": 1, "unknown_voice": 1, "bad_setting": 1}
    assert planned.look.unknown_voices == {"nobody": 1}
    assert 0 < e.audio_low_s < e.audio_s < e.audio_high_s and e.work_s is None
    text = "\n".join(planned.lines())
    assert "12, " in text and "voices: nobody (1 rows)" in text and "--probe 20" in text
    assert read_estimate(Store(config.output)) == e
    with pytest.raises(ConfigError, match="no such file"):
        plan_run(make_config(manifest="/nowhere/rows.parquet"))


@pytest.mark.usefixtures("in_process")
def test_probe_measures_and_the_run_starts_after_it(make_config: MakeConfig) -> None:
    config = make_config()
    planned = plan_run(config, probe_rows=6, price_per_hour=2.0)
    e = planned.estimate
    assert e.probed_rows == 6 and e.work_s and e.work_s > 0 and e.gpu_s == 0
    assert e.cost == pytest.approx(e.work_s / 3600 * 2.0)
    assert e.rejected_rows is not None
    counts = run(config)  # the estimate in `_plan` does not disturb it
    assert counts.written == len(ROWS) - len(FAILED)
    html = make_report(Store(config.output), clips=3).html.decode()
    assert "Planned, and now" in html and '<th scope="row">cost</th>' in html


def test_known_languages_are_those_of_the_presets(make_config: MakeConfig, manifest: Path) -> None:
    rows = pa.table({"id": ["a", "b", "c"], "text": ["One.", "Two.", "Three."], "language": ["en", "tlh", None]})
    pq.write_table(rows, manifest)
    planned = plan_run(make_config())
    assert planned.look.unknown_languages == {"tlh": 1} and "languages: tlh" in "\n".join(planned.lines())


def test_fit_finds_seconds_of_segments_and_characters() -> None:
    rng = np.random.default_rng(0)
    segments = rng.integers(1, 5, 40)
    characters = segments * rng.integers(20, 150, 40)
    seconds = 0.4 * segments + 0.06 * characters
    found = fit(np.stack([segments, characters], axis=1).astype(float), seconds)
    assert found == pytest.approx([0.4, 0.06])
    assert fit(np.array([[1.0, 100.0]]), np.array([5.0])) == pytest.approx([0, 0.05])


@pytest.mark.usefixtures("in_process")
def test_budget_stops_in_order_and_the_run_goes_on(make_config: MakeConfig, finished: FinishedRun) -> None:
    config = make_config()
    with pytest.raises(IncompleteError, match=r"budget of hours is spent: \d+ rows are to go; run the same command"):
        run(config, budget_hours=0)
    assert run(config).written == finished.summary.written
    assert parts(config.output) == parts(finished.output)
    run(make_config(output=f"{config.output}2"), budget_hours=1)


def test_command(
    make_config: MakeConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_config(make_config(), tmp_path)
    for words, code, text in (([], 0, "rows        12"), (["--manifest", "/nowhere"], 2, "no such file")):
        monkeypatch.setattr("sys.argv", ["barkery", "plan", path, *words])
        with pytest.raises(SystemExit) as ended:
            main()
        out, err = capsys.readouterr()
        assert ended.value.code == code and text in out + err
