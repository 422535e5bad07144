"""The output's card: progress while a run works, statistics at its end, and the same text from every run."""

from pathlib import Path

import pytest
import yaml

from pipeline.flow import live_card
from pipeline.flow.driver import run
from pipeline.shards.reader import commits
from pipeline.storage.store import Store
from tests.flow.conftest import FAILED, ROWS, FinishedRun, MakeConfig


def test_final_card_has_the_numbers(finished: FinishedRun) -> None:
    text = (finished.output / "README.md").read_text()
    head = yaml.safe_load(text.split("---\n")[1])
    assert [each["config_name"] for each in head["configs"]] == ["default", "failures"]
    assert head["language"] == ["de", "en"] and head["size_categories"] == ["n<1K"]
    for line in (
        "| texts | 12 |",
        "| clips | 6 |",
        "| failed | 6 |",
        "| duration, s |",
        "| loudness, LUFS |",
        "| en | 1 |",
    ):
        assert line in text, line
    assert "In progress" not in text and "no person said these words" in text and "## Licenses" in text


@pytest.mark.usefixtures("in_process")
def test_card_shows_progress_and_a_resume_counts_what_was_there(
    make_config: MakeConfig, finished: FinishedRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = make_config()
    finished.copy_to(config.output)
    Path(config.output, "_commits/part-00001.json").unlink()
    written: list[str] = []
    put = Store.put
    monkeypatch.setattr(live_card, "EVERY_S", 0.0)
    monkeypatch.setattr(
        Store,
        "put",
        lambda s, name, content: (
            written.append(content.decode()) if name == "README.md" else None,
            put(s, name, content),
        )[1],
    )
    run(config)
    progress, final = written[0], written[-1]
    last = commits(Store(config.output))
    assert sum(each.written + each.failed for each in last) == len(ROWS)
    assert f"| failed | {len(FAILED)} |" in progress  # two shards from before, and the one that was missing
    assert final.encode() == (finished.output / "README.md").read_bytes()


@pytest.mark.usefixtures("in_process")
def test_planned_run_has_a_card_with_a_bar(make_config: MakeConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    config = make_config()
    monkeypatch.setattr("pipeline.flow.driver.run_and_count", lambda *_: None)
    run(config)
    text = Path(config.output, "README.md").read_text()
    assert "## In progress" in text and "░" * 30 in text and "0.0%" in text and "| to go | 12 |" in text
