"""Both layouts, both ways; and whatever is wrong with a file is said with its name and keys."""

import json
import os
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from pipeline.errors import CheckpointError
from pipeline.model.checkpoint import Checkpoint
from pipeline.model.export import save_huggingface, save_suno

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
    held = torch.load(tmp_path / "text.pt", weights_only=False)
    held["model"]["_orig_mod.transformer.h.0.attn.bias"] = torch.ones(1, 1, 8, 8).tril()
    held["model_args"]["vocab_size"] = None  # beside the two that count
    torch.save(held, tmp_path / "text.pt")
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


def test_ties_stored_once_load_and_broken_ties_are_refused(tiny: Path, hf: Path) -> None:
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
    with pytest.raises(CheckpointError, match=says):  # the driver's quick look finds the same
        Checkpoint(hf).check()


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "generation_config.json"])
@pytest.mark.parametrize("size", [0, 100])
def test_a_truncated_file_is_named(hf: Path, name: str, size: int) -> None:
    os.truncate(hf / name, size)
    with pytest.raises(CheckpointError, match=name):
        load_all(hf)


@pytest.mark.parametrize("name", ["text_2.pt", "fine_2.pt", "encodec_24khz.th"])
@pytest.mark.parametrize("share", [0.0, 0.5, 0.99])
def test_a_truncated_suno_file_is_named(suno: Path, name: str, share: float) -> None:
    os.truncate(suno / name, int((suno / name).stat().st_size * share))
    with pytest.raises(CheckpointError, match=name):
        load_all(suno)


class Evil:
    def __reduce__(self) -> tuple:
        return Path.touch, (Path("was_run"),)


@pytest.mark.parametrize("old_format", [False, True])
def test_a_pickle_that_runs_code_is_refused_and_not_run(
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


def test_folders_that_are_no_bark_are_refused(hf: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(CheckpointError, match=r"neither config\.json"):
        Checkpoint(tmp_path / "empty")
    (hf / "config.json").write_text('{"model_type": "bert", "hidden_size": 32}')
    with pytest.raises(CheckpointError, match=r"config\.json: semantic_config: missing"):
        load_all(hf)


def test_the_quick_look_passes_both_layouts(tiny: Path, tiny_suno: Path) -> None:
    Checkpoint(tiny).check()
    Checkpoint(tiny_suno).check()


def test_the_fingerprint_follows_the_weights(hf: Path, tiny: Path) -> None:
    before = Checkpoint(hf).fingerprint
    assert before == Checkpoint(tiny).fingerprint
    weights = load_file(hf / "model.safetensors")
    weights["semantic.lm_head.weight"][0, 0] += 1
    save_file(weights, hf / "model.safetensors")
    assert Checkpoint(hf).fingerprint != before
