"""A wrong config is one line that names file and key, before anything starts."""

from pathlib import Path
from typing import Any

import pytest

from pipeline.bark.registry import STAGES
from pipeline.config import PoolConfig, load_config, parse
from pipeline.errors import ConfigError
from pipeline.quality.judges.settings import JudgeSettings, VadJudge

GOOD = "model: m\nmanifest: a.parquet\noutput: out\n"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (GOOD + "modle: x", r"modle: unknown key; did you mean model\?"),
        (GOOD + "sampling: {top_kk: 3}", r"sampling\.top_kk: unknown key; did you mean top_k\?"),
        (GOOD + "sampling: {top_k: 0}", "sampling: top_k must be at least 1, is 0"),
        (GOOD + "sampling: {semantic_temperature: hot}", "semantic_temperature"),
        (GOOD + "pools: {fine: {slot: 3}}", r"pools\.fine\.slot: unknown key; did you mean slots\?"),
        (GOOD + "pools: {fines: {}}", r"pools\.fines: unknown key; did you mean fine\?"),
        (GOOD + "pools: {fine: {actors: 0}}", r"pools\.fine\.actors: must be at least 1"),
        (GOOD + "pools: {fine: {actors: {min: 3, max: 2}}}", r"pools\.fine\.actors: must be at least 1, and max"),
        (GOOD + "pools: {fine: {num_gpus: -1}}", r"pools\.fine\.num_gpus: .*greater than or equal to 0"),
        (GOOD + "pools: {fine: {slots: 6}}", r"pools\.fine\.slots: must be 1 to 4 or a multiple of 4"),
        (GOOD + "pools: {fine: {device: cuda}}", r"pools\.fine: device cuda needs num_gpus above 0"),
        (GOOD + "pools: {fine: {device: tpu}}", r"pools\.fine\.device: .*pattern"),
        (GOOD + "pools: {fine: {dtype: int4}}", r"pools\.fine\.dtype: .*'float32'"),
        (GOOD + "audio: {format: ogg}", r"audio\.format: .*'flac', 'wav' or 'mp3'"),
        (GOOD + "seed: -1", "seed: .*greater than or equal to 0"),
        ("model: m\noutput: out\n", "manifest: is missing"),
        ("- a\n- b", "must have keys and values"),
        ("", "must have keys and values"),
        ("a: [", "not valid YAML"),
    ],
)
def test_mistakes_are_named(tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "run.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=says) as caught:
        load_config(path)
    assert str(caught.value).startswith(str(path)) and "\n" not in str(caught.value)


def test_set_changes_one_of_the_groups_that_an_anchor_made_one(tmp_path: Path) -> None:
    config = tmp_path / "run.yaml"
    config.write_text(
        "model: m\nmanifest: a\noutput: b\npools:\n  semantic: &pool { quantize: int8 }\n  coarse: *pool\n  fine: *pool\n"
    )
    pools = load_config(config, ["pools.coarse.quantize=null", "pools.coarse.slots=4"]).pools
    assert [pool.quantize for pool in (pools.semantic, pools.coarse, pools.fine)] == ["int8", None, "int8"]
    assert (pools.coarse.slots, pools.fine.slots) == (4, None)


def test_set_and_overrides_win(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_text(GOOD)
    config = load_config(
        path, ["pools.fine.num_cpus=2.5", "sampling.top_k=5", "seed=9"], output="elsewhere", limit=None
    )
    assert (config.pools.fine.num_cpus, config.sampling.top_k, config.seed) == (2.5, 5, 9)
    assert (config.output, config.limit, config.manifest) == ("elsewhere", None, "a.parquet")
    for wrong in ("seed", "=3", "model.x=3", "sampling.topk=1"):
        with pytest.raises(ConfigError):
            load_config(path, [wrong])


def test_secrets_are_neither_saved_nor_printed(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_text(GOOD + "storage_options: {secret: hunter2}")
    config = load_config(path)
    assert config.storage_options == {"secret": "hunter2"}
    assert "hunter2" not in repr(config) + str(config.identity)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (
            "storage_options: {key: AKIA, secret: SEKRET9, endpoint_url http://x",
            r"not valid YAML in line 4, column \d+: expected ",
        ),
        ("storage_options: {secret: *SEKRET9}", "not valid YAML in line 4, column 27: found undefined alias"),
        ("storage_options: {secret: !SEKRET9 x}", "not valid YAML in line 4, .* for the tag '...'"),
        ("storage_options: {SEKRET9: 2024-99-99}", "not valid YAML: ValueError"),
        ("storage_options: " + 5000 * "[", "not valid YAML: RecursionError"),
        ("storage_options: [SEKRET9]", "storage_options: Input should be a valid dictionary$"),
        ("storage_options: SEKRET9", "storage_options: Input should be a valid dictionary$"),
        ("storage_options: {7: SEKRET9}", "storage_options: Input should be a valid string$"),
        ("storge_options: {secret: SEKRET9}", "storge_options: unknown key"),
        ("tokenizer: ['https://me:SEKRET9@h/t?sig=SEKRET9']", "tokenizer: Input should be a valid string"),
    ],
)
def test_mistakes_are_named_without_secrets(tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "run.yaml"
    path.write_text(GOOD + text)
    with pytest.raises(ConfigError, match=says) as caught:
        load_config(path)
    assert "SEKRET" not in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "change",
    ["storage_options=SEKRET9", "storage_options.secret={SEKRET9", "storage_options.SEKRET9", "seed.x=SEKRET9",
     "manifest=[https://me:SEKRET9@h/m", "manifest=[https://me:SEKRET9@h/m]"],
)  # fmt: skip
def test_changes_that_fail_do_not_repeat_their_values(tmp_path: Path, change: str) -> None:
    path = tmp_path / "run.yaml"
    path.write_text(GOOD + "seed: 3")
    with pytest.raises(ConfigError) as caught:
        load_config(path, [change])
    assert "SEKRET" not in str(caught.value) and "\n" not in str(caught.value)


def test_a_config_is_printed_without_what_is_secret_in_its_urls() -> None:
    urls = {"manifest": "simplecache::https://me:SEKRET9@h/m.parquet", "output": "https://h/c?sv=1&sig=SEKRET9"}
    config = parse({"model": "m"} | urls, "here")
    assert "SEKRET" not in repr(config) + str(config) and "h/m.parquet" in repr(config)
    assert config.manifest == urls["manifest"]


GPUS = {"pools": {name: {"num_gpus": 0.2} for name in ("semantic", "coarse", "fine", "decode")}}


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ({}, GPUS, False),
        ({}, {"pools": {"decode": {"num_gpus": 1}}}, False),
        ({}, {"pools": {"fine": {"dtype": "bfloat16"}}}, False),
        ({}, {"pools": {"fine": {"dtype": "float32", "device": "cpu"}}}, True),
        (GPUS, {"pools": {n: p | {"device": "cuda:0", "dtype": "bfloat16"} for n, p in GPUS["pools"].items()}}, True),
        ({}, {"pools": {"semantic": {"slots": 16, "threads": 2, "actors": 3}}}, True),
        ({}, {"storage_options": {"key": "x"}}, True),
    ],
)
def test_the_identity_is_what_decides_the_output(one: dict[str, Any], other: dict[str, Any], same: bool) -> None:
    base = {"model": "m", "manifest": "x", "output": "o"}
    assert (parse(base | one, "here").identity == parse(base | other, "here").identity) == same


def test_a_pool_for_each_stage_of_the_registry() -> None:
    config = parse({"model": "m", "manifest": "a", "output": "b", "pools": {"fine": {"num_cpus": 2}}}, "here")
    assert list(config.active_pools) == list(STAGES) == ["semantic", "coarse", "fine", "decode"]
    judged = config.model_copy(update={"judges": JudgeSettings(vad=VadJudge())})
    assert list(judged.active_pools) == [*STAGES, "judge"]
    assert config.pools["fine"] is config.pools.fine and config.pools["fine"].num_cpus == 2


@pytest.mark.parametrize(
    ("settings", "device", "dtype"),
    [
        ({}, "cpu", "float32"),
        ({"num_gpus": 0.5}, "cuda", "bfloat16"),
        ({"num_gpus": 1, "device": "cuda:1"}, "cuda:1", "bfloat16"),
        ({"num_gpus": 1, "device": "cpu"}, "cpu", "float32"),
        ({"num_gpus": 1, "dtype": "float16"}, "cuda", "float16"),
    ],
)
def test_auto_follows_the_gpus_of_an_actor(settings: dict[str, Any], device: str, dtype: str) -> None:
    pool = PoolConfig.model_validate(settings)
    assert (pool.resolved_device, pool.resolved_dtype) == (device, dtype)
