"""A wrong config is one line that names file and key, before anything starts."""

from pathlib import Path

import pytest

from pipeline.config import load_config
from pipeline.errors import ConfigError

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
        ("- a\n- b", "must hold keys and values"),
        ("", "must hold keys and values"),
        ("a: [", "not valid YAML"),
    ],
)
def test_mistakes_are_named(tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "run.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=says) as caught:
        load_config(path)
    assert str(caught.value).startswith(str(path)) and "\n" not in str(caught.value)


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
