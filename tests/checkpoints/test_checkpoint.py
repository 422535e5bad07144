"""Both formats are read and written; errors name the file and its keys."""

import json
import os
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from pipeline.checkpoints.checkpoint import Checkpoint
from pipeline.checkpoints.export import save_huggingface, save_suno
from pipeline.errors import CheckpointError

PARTS = ("semantic", "coarse", "fine", "codec")


def states(folder: Path) -> dict[str, torch.Tensor]:
    checkpoint = Checkpoint(folder)
    return {f"{p}.{n}": t for p in PARTS for n, t in getattr(checkpoint, p)().state_dict().items()}


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    weights = {n for n in a if ".quantizer." not in n or n.endswith(".embed")}
    return a.keys() == b.keys() and all(torch.equal(a[n], b[n]) for n in weights)


def load_all(folder: Path) -> None:
    checkpoint = Checkpoint(folder)
    for part in PARTS:
        getattr(checkpoint, part)()


@pytest.fixture
def hf(tiny: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny, tmp_path / "hf"))


@pytest.fixture
def suno(tiny_suno: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_suno, tmp_path / "suno"))


def test_conversion_round_trip_is_exact(tiny: Path, tmp_path: Path) -> None:
    save_suno(Checkpoint(tiny), tmp_path / "suno")
    save_huggingface(Checkpoint(tmp_path / "suno"), tmp_path / "hf")
    assert same(states(tiny), states(tmp_path / "suno"))
    assert same(states(tiny), states(tmp_path / "hf"))
    assert json.loads((tmp_path / "hf/config.json").read_text()) == json.loads((tiny / "config.json").read_text())


def test_small_names_and_masks_load(tiny: Path, tmp_path: Path) -> None:
    save_suno(Checkpoint(tiny), tmp_path, small=True)
    content = torch.load(tmp_path / "text.pt", weights_only=False)
    content["model"]["_orig_mod.transformer.h.0.attn.bias"] = torch.ones(1, 1, 8, 8).tril()
    content["model_args"]["vocab_size"] = None  # beside input_vocab_size and output_vocab_size
    torch.save(content, tmp_path / "text.pt")
    assert same(states(tiny), states(tmp_path))


def test_pickled_and_sharded_weights_load(tiny: Path, hf: Path) -> None:
    expected = states(tiny)
    weights = load_file(hf / "model.safetensors")
    (hf / "model.safetensors").unlink()
    torch.save(weights, hf / "pytorch_model.bin")
    assert same(states(hf), expected)
    (hf / "pytorch_model.bin").unlink()
    names = sorted(weights)
    index = {}
    for i, part in enumerate((names[::2], names[1::2])):
        save_file({n: weights[n] for n in part}, hf / f"model-{i}.safetensors")
        index |= dict.fromkeys(part, f"model-{i}.safetensors")
    (hf / "model.safetensors.index.json").write_text(json.dumps({"weight_map": index}))
    assert same(states(hf), expected)


def test_tied_weights_stored_once_load_and_differing_ones_are_refused(tiny: Path, hf: Path) -> None:
    path = hf / "model.safetensors"
    weights = load_file(path)
    once = {n: t for n, t in weights.items() if not n.startswith("fine_acoustics.lm_heads.")}
    save_file(once, path)
    assert same(states(hf), states(tiny))
    weights["fine_acoustics.lm_heads.3.weight"] += 1
    save_file(weights, path)
    with pytest.raises(CheckpointError, match=r"wtes\.4\.weight and lm_heads\.3\.weight must be the same"):
        load_all(hf)


def rename_key(weights: dict[str, torch.Tensor]) -> None:
    weights["semantic.layers.0.mlp.what.weight"] = weights.pop("semantic.layers.0.mlp.in_proj.weight")


def shorten(weights: dict[str, torch.Tensor]) -> None:
    weights["coarse_acoustics.layernorm_final.weight"] = torch.ones(3)


def drop_codebook(weights: dict[str, torch.Tensor]) -> None:
    del weights["codec_model.quantizer.layers.5.codebook.embed"]


def drop_direction(weights: dict[str, torch.Tensor]) -> None:
    del weights["codec_model.decoder.layers.0.conv.weight_v"]


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (rename_key, r"semantic model: missing keys h\.0\.mlp\.c_fc\.weight; extra keys h\.0\.mlp\.what\.weight"),
        (shorten, r"ln_f\.weight is \(3,\), the config says \(32,\)"),
        (drop_direction, r"codec model: missing keys decoder\.model\.0\.conv\.conv\.weight"),
        (drop_codebook, r"codec model: missing keys quantizer\.vq\.layers\.5\._codebook\.embed"),
    ],
)
def test_wrong_keys_and_shapes_are_named(hf: Path, damage: Callable, says: str) -> None:
    weights = load_file(hf / "model.safetensors")
    damage(weights)
    save_file(weights, hf / "model.safetensors")
    with pytest.raises(CheckpointError, match=says):
        load_all(hf)
    with pytest.raises(CheckpointError, match=says):  # the driver's check finds the same
        Checkpoint(hf).check()


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "generation_config.json"])
@pytest.mark.parametrize("size", [0, 100])
def test_truncated_file_is_named(hf: Path, name: str, size: int) -> None:
    os.truncate(hf / name, size)
    with pytest.raises(CheckpointError, match=name):
        load_all(hf)


@pytest.mark.parametrize("name", ["text_2.pt", "fine_2.pt", "encodec_24khz.th"])
@pytest.mark.parametrize("share", [0.0, 0.5, 0.99])
def test_truncated_suno_file_is_named(suno: Path, name: str, share: float) -> None:
    os.truncate(suno / name, int((suno / name).stat().st_size * share))
    with pytest.raises(CheckpointError, match=name):
        load_all(suno)


class Evil:
    def __reduce__(self) -> tuple:
        return Path.touch, (Path("was_run"),)


@pytest.mark.parametrize("old_format", [False, True])
def test_pickle_that_runs_code_is_refused_and_not_executed(
    suno: Path, old_format: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(suno)
    target = suno / "coarse_2.pt"
    if old_format:
        target.write_bytes(pickle.dumps({"model": Evil(), "model_args": {}}))
    else:
        torch.save({"model": Evil(), "model_args": {}}, target)
    with pytest.raises(CheckpointError, match=r"coarse_2\.pt: refused"):
        load_all(suno)
    assert not (suno / "was_run").exists()
    torch.load(target, weights_only=False) if not old_format else pickle.loads(target.read_bytes())
    assert (suno / "was_run").exists()  # it would have run


def test_folders_without_a_bark_checkpoint_are_refused(hf: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(CheckpointError, match=r"neither config\.json"):
        Checkpoint(tmp_path / "empty")
    (hf / "config.json").write_text('{"model_type": "bert", "hidden_size": 32}')
    with pytest.raises(CheckpointError, match=r"config\.json: semantic_config: missing"):
        load_all(hf)


def change(path: Path, keys: tuple[str, ...], value: Any) -> None:
    """Set a value in a JSON file."""
    content = inner = json.loads(path.read_text())
    for key in keys[:-1]:
        inner = inner[key]
    inner[keys[-1]] = value
    path.write_text(json.dumps(content))


def refused(folder: Path, *says: str) -> None:
    """Both the driver's check and a load fail with one line that contains these texts."""
    for call in (Checkpoint(folder).check, lambda: load_all(folder)):
        with pytest.raises(CheckpointError) as caught:
            call()
        message = str(caught.value)
        assert "\n" not in message and len(message) < 1000 and all(each in message for each in says), message


NOT_A_SIZE = ["abc", [1], -5, 2**40, 1.5, float("nan"), True, {}]
NOT_A_SECTION = ["abc", [1], 5, True, float("nan")]


@pytest.mark.parametrize("value", NOT_A_SECTION, ids=repr)
@pytest.mark.parametrize(
    ("name", "part"),
    [
        *(("config.json", f"{part}_config") for part in ("semantic", "coarse_acoustics", "fine_acoustics", "codec")),
        *(("generation_config.json", f"{part}_config") for part in ("semantic", "coarse_acoustics")),
    ],
)
def test_section_of_a_wrong_type_is_named(hf: Path, name: str, part: str, value: Any) -> None:
    change(hf / name, (part,), value)
    refused(hf, name, f"{part} must be an object with names and values")


@pytest.mark.parametrize("value", [*NOT_A_SIZE, None], ids=repr)
@pytest.mark.parametrize(
    ("part", "key"),
    [
        *(("semantic_config", key) for key in ("semantic_vocab_size", "text_pad_token", "max_segment_tokens")),
        *(("semantic_config", key) for key in ("semantic_infer_token", "text_encoding_offset")),
        *(("coarse_acoustics_config", key) for key in ("coarse_semantic_pad_token", "coarse_infer_token")),
    ],
)
def test_wrong_token_id_is_named(hf: Path, part: str, key: str, value: Any) -> None:
    change(hf / "generation_config.json", (part, key), value)
    refused(hf, "generation_config.json", part, key, "whole number")


@pytest.mark.parametrize(
    ("part", "key", "value", "says"),
    [
        ("semantic_config", "semantic_infer_token", 129_600, "input_vocab_size is 129600, must be at least 129601"),
        ("semantic_config", "text_pad_token", 131_000, "at least 131001 for text_pad_token 131000"),
        ("semantic_config", "semantic_vocab_size", 10_500, "output_vocab_size is 10048, must be at least 10501"),
        ("semantic_config", "text_encoding_offset", 129_595, "text_encoding_offset is 129595, must be less than"),
        ("coarse_acoustics_config", "coarse_infer_token", 12_096, "at least 12097 for coarse_infer_token 12096"),
        ("coarse_acoustics_config", "coarse_semantic_pad_token", 100_000, "coarse_semantic_pad_token 100000"),
    ],
)
def test_id_past_the_end_of_an_embedding_is_refused(hf: Path, part: str, key: str, value: int, says: str) -> None:
    change(hf / "generation_config.json", (part, key), value)
    refused(hf, "config.json", says)


def test_last_id_of_an_embedding_is_accepted(hf: Path) -> None:
    change(hf / "generation_config.json", ("semantic_config", "text_pad_token"), 129_599)
    change(hf / "generation_config.json", ("coarse_acoustics_config", "coarse_infer_token"), 12_095)
    change(hf / "generation_config.json", ("semantic_config", "text_encoding_offset"), 0)
    Checkpoint(hf).check()


@pytest.mark.parametrize(
    ("part", "key", "value"),
    [
        ("fine_acoustics_config", "input_vocab_size", 1024),
        ("fine_acoustics_config", "output_vocab_size", 1023),
        ("fine_acoustics_config", "n_codes_total", 7),
        ("fine_acoustics_config", "n_codes_given", 3),
        ("fine_acoustics_config", "block_size", 1023),
        ("semantic_config", "block_size", 512),
        ("coarse_acoustics_config", "block_size", 946),
        ("coarse_acoustics_config", "output_vocab_size", 12_047),
        ("codec_config", "use_conv_shortcut", "no"),
    ],
)
def test_size_too_small_for_its_stage_is_refused(hf: Path, part: str, key: str, value: Any) -> None:
    change(hf / "config.json", (part, key), value)
    refused(hf, f"config.json: {part}: {key}")


def test_deeply_nested_json_is_named(hf: Path) -> None:
    (hf / "config.json").write_text("[" * 200_000)
    with pytest.raises(CheckpointError, match=r"config\.json: can't be read as JSON"):
        Checkpoint(hf)


@pytest.mark.parametrize(
    "weight_map", [None, [1], "abc", {}, {"a": 1}, {"a": ["x"]}, {"a": "../x"}, {"a": None}], ids=repr
)
def test_index_without_file_names_is_named(hf: Path, weight_map: Any) -> None:
    (hf / "model.safetensors").unlink()
    (hf / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    refused(hf, "model.safetensors.index.json: weight_map")


@pytest.mark.parametrize(
    "item", [{1: torch.zeros(2)}, {"semantic.x": "text"}, {"semantic.x": torch.eye(2).to_sparse()}], ids=repr
)
def test_pickle_without_weights_is_named(hf: Path, suno: Path, item: dict[Any, Any]) -> None:
    (hf / "model.safetensors").unlink()
    torch.save(item, hf / "pytorch_model.bin")
    refused(hf, "pytorch_model.bin", str(next(iter(item))))
    content = torch.load(suno / "text_2.pt", weights_only=False)
    torch.save(content | {"model": item}, suno / "text_2.pt")
    refused(suno, "text_2.pt: model", str(next(iter(item))))


@pytest.mark.parametrize("model_args", [[1], "abc", 5, {"n_layer": "x"}, {"input_vocab_size": 9}], ids=repr)
def test_wrong_model_args_are_named(suno: Path, model_args: Any) -> None:
    content = torch.load(suno / "text_2.pt", weights_only=False)
    model_args = content["model_args"] | model_args if isinstance(model_args, dict) else model_args
    torch.save(content | {"model_args": model_args}, suno / "text_2.pt")
    refused(suno, "text_2.pt: model_args")


@pytest.mark.parametrize(
    ("name", "tensor"),
    [
        ("decoder.model.0.conv.conv.weight_v", torch.ones(3)),
        ("decoder.model.0.conv.conv.weight_v", torch.ones(1, 1, 1)),
        ("decoder.model.0.conv.conv.weight_g", torch.ones(2, 3, 5)),
        (5, torch.ones(3)),
    ],
    ids=["flat", "small", "other shape", "number"],
)
def test_damaged_suno_codec_is_named(suno: Path, name: Any, tensor: torch.Tensor) -> None:
    content = torch.load(suno / "encodec_24khz.th", weights_only=False)
    torch.save(content | {name: tensor}, suno / "encodec_24khz.th")
    refused(suno, str(suno), str(name).removesuffix("_g").removesuffix("_v"))


def test_integer_weights_are_named(hf: Path) -> None:
    weights = load_file(hf / "model.safetensors")
    weights["semantic.lm_head.weight"] = weights["semantic.lm_head.weight"].long()
    save_file(weights, hf / "model.safetensors")
    refused(hf, "semantic model: lm_head.weight is torch.int64")


def test_check_accepts_both_formats(tiny: Path, tiny_suno: Path) -> None:
    Checkpoint(tiny).check()
    Checkpoint(tiny_suno).check()


def test_fingerprint_depends_on_the_weights(hf: Path, tiny: Path) -> None:
    before = Checkpoint(hf).fingerprint
    assert before == Checkpoint(tiny).fingerprint
    weights = load_file(hf / "model.safetensors")
    weights["semantic.lm_head.weight"][0, 0] += 1
    save_file(weights, hf / "model.safetensors")
    assert Checkpoint(hf).fingerprint != before
