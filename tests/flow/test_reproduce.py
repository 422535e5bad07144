"""Any row of an output can be made again from what the output has recorded, without the manifest."""

import json
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.cli.main import main
from pipeline.config import RunConfig
from pipeline.errors import ConfigError
from pipeline.flow.driver import retry, run
from pipeline.reproduce.compare import reproduce
from pipeline.reproduce.find import find_row, random_rows
from pipeline.shards.environment import save_environment
from pipeline.shards.reader import rows
from pipeline.storage.store import Store
from tests.flow.conftest import FinishedRun, tiny_config, write_manifest
from tests.flow.in_process import replace_ray
from tests.flow.test_quality import GATE, gated_config

TOO_LONG = {
    "id": "too long at first",
    "text": "y" * 195,
    "voice": "v2/en_speaker_3",
}  # a segment may have 190 characters


@pytest.fixture(scope="module")
def output(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Rows with voices, overrides and long texts, and one that a retry with other settings spoke; without a manifest."""
    folder = tmp_path_factory.mktemp("reproduce")
    config = tiny_config(tiny, folder)
    path = Path(config.manifest)
    write_manifest(path)
    table = pq.read_table(path)
    pq.write_table(pa.concat_tables([table, pa.Table.from_pylist([TOO_LONG], schema=table.schema)]), path)
    with pytest.MonkeyPatch.context() as patch:
        replace_ray(patch)
        run(config)
        retry(Store(config.output), None, ["segments.max_chars=250"])
    path.unlink()
    return Path(config.output)


def changed(output: Path) -> dict[str, bytes]:
    return {str(path.relative_to(output)): path.read_bytes() for path in output.rglob("*") if path.is_file()}


def test_every_kind_of_row_is_made_again_to_the_last_bit(output: Path) -> None:
    store, before = Store(str(output)), changed(output)
    written = {row["id"] for row in rows(store, ["id"])}
    assert written >= {"voice", "german", "long", "greedy", "../escape", TOO_LONG["id"]}
    found = [find_row(store, row_id) for row_id in written]
    assert {each.plan.generation for each in found} == {0, 1}
    random.Random(1).shuffle(found)  # neither the order nor the neighbors matter
    made = {each.id: each for each in reproduce(store, found)}
    assert made.keys() == written and all(each.is_identical for each in made.values())
    assert made["long"].result.startswith("identical: ")
    (alone,) = reproduce(store, [find_row(store, "long")])
    assert np.array_equal(alone.samples, made["long"].samples)
    assert changed(output) == before


def test_sample_draws_different_rows(output: Path) -> None:
    store = Store(str(output))
    four = [found.row["id"] for found in random_rows(store, 4, 1)]
    assert len(set(four)) == 4 and four == [found.row["id"] for found in random_rows(store, 4, 1)]
    everything = {found.row["id"] for found in random_rows(store, 100, 2)}
    assert everything == {row["id"] for row in rows(store, ["id"])}


def test_difference_names_samples_and_environment(output: Path) -> None:
    store = Store(str(output))
    found = find_row(store, "voice")
    other = save_environment(store, {"torch": "1.0", "processor": "an abacus", "instruction_sets": ["beads"]})
    commit = replace(found.commit, environments=dict.fromkeys(found.commit.environments, other))
    (made,) = reproduce(store, [replace(found, commit=commit, row=found.row | {"seed": 8})])
    assert not made.is_identical and made.result.startswith("differs")
    (torch,) = (line for line in made.environment if "torch was 1.0, is " in line)
    assert torch.startswith("semantic, coarse, fine, decode: ")
    assert any("processor was an abacus" in line for line in made.environment)
    (output / "_plan/environments" / f"{other}.json").unlink()


def test_rows_that_can_not_be_made_again_say_why(output: Path, tmp_path: Path) -> None:
    store = Store(str(output))
    with pytest.raises(ConfigError, match="row 'nobody' is not in this output"):
        find_row(store, "nobody")
    with pytest.raises(ConfigError, match="row 'stranger' did not become audio, it failed in stage text"):
        find_row(store, "stranger")
    found = find_row(store, "voice")
    (made,) = reproduce(store, [replace(found, row=found.row | {"voice": str(tmp_path / "deleted.npz")})])
    assert made.error and "can't be made again" in made.result
    with pytest.raises(ConfigError, match="--model says where the model is now"):
        list(reproduce(store, [found], str(tmp_path / "moved")))
    with pytest.raises(ConfigError, match=r"its weights differ .*model_revision was sha256:"):
        list(reproduce(store, [found], "puppy"))


def command(monkeypatch: pytest.MonkeyPatch, *words: str) -> int:
    monkeypatch.setattr("sys.argv", ["barkery", "reproduce", *words])
    with pytest.raises(SystemExit) as ended:
        main()
    return int(ended.value.code or 0)


def test_command(
    output: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command(monkeypatch, str(output), "greedy", "-o", str(tmp_path / "clip.flac")) == 0
    assert "row 'greedy': identical: " in capsys.readouterr().out and (tmp_path / "clip.flac").stat().st_size > 1000
    assert command(monkeypatch, str(output), "--sample", "3") == 0
    assert "3 of 3 rows are identical" in capsys.readouterr().out
    for words in ([], ["voice", "--sample", "3"], ["voice", "-o", str(tmp_path / "clip.ogg")], ["empty"]):
        assert command(monkeypatch, str(output), *words) == 2
        assert len(capsys.readouterr().err.strip().splitlines()) == 1


def test_damaged_output_is_one_line_and_exit_code_2(
    finished: FinishedRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    damages: dict[str, Any] = {
        "part": lambda o: next((o / "data").glob("part-00000*")).write_bytes(b"PAR1"),
        "commit": lambda o: (o / "_commits/part-00000.json").write_text("{}"),
        "run": lambda o: (o / "_plan/run.json").write_text("{}"),
        "plan": lambda o: next((o / "_plan").glob("plan-*")).write_bytes(b"PAR1"),
        "settings": lambda o: (o / "_plan/run.json").write_text(
            json.dumps(json.loads((o / "_plan/run.json").read_text()) | {"config": {}})
        ),
    }
    for name, damage in damages.items():
        finished.copy_to(str(tmp_path / name))
        damage(tmp_path / name)
        assert command(monkeypatch, str(tmp_path / name), "plain") == 2, name
        err = capsys.readouterr().err.strip()
        assert len(err.splitlines()) == 1 and "Traceback" not in err, err


def test_mp3_is_compared_after_its_encoder(tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    replace_ray(monkeypatch)
    config: RunConfig = tiny_config(tiny, tmp_path, audio={"format": "mp3"}, limit=2)
    write_manifest(Path(config.manifest))
    run(config)
    store = Store(config.output)
    assert all(each.is_identical for each in reproduce(store, list(random_rows(store, 9, 0))))


def test_rows_of_the_quality_gate_are_made_again(tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows that were accepted after a retry, rows that were kept as the best of rejected attempts, and redrawn tokens."""
    replace_ray(monkeypatch)
    gate = GATE | {"semantic_attempts": 2}
    config = gated_config(tiny, tmp_path, gate)
    run(config)
    Path(config.manifest).unlink()
    store = Store(config.output)
    found = list(random_rows(store, 100, 0))
    verdicts = [each.row["quality"]["verdict"] for each in found]
    assert "kept" in verdicts and "accepted" in verdicts and len({each.plan.generation for each in found}) > 1
    assert any(len(each.row["attempts"]) > 1 for each in found)
    assert all(each.is_identical for each in reproduce(store, found))
