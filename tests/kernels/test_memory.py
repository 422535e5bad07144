"""Weights that are read no more leave the process, and nothing else does."""

import re
import sys
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from pipeline.kernels.autotune import KernelConfig
from pipeline.kernels.linear import Linear, pack_weights
from pipeline.kernels.memory import release_mapped_pages

WIDTH = 1500  # 9 MB a weight; not a whole number of pages


def resident_mib(file: str) -> float:
    """Of a file's mappings."""
    held = re.findall(rf"{re.escape(file)}\n.*?^Rss:\s+(\d+) kB", Path("/proc/self/smaps").read_text(), re.M | re.S)
    return sum(map(int, held)) / 1024


@pytest.fixture
def mapped(tmp_path: Path) -> dict[str, torch.Tensor]:
    made = torch.Generator().manual_seed(0)
    save_file(
        {f"w{i}": torch.randn(WIDTH, WIDTH, generator=made) / WIDTH**0.5 for i in range(4)},
        tmp_path / "weights.safetensors",
    )
    with safe_open(tmp_path / "weights.safetensors", framework="pt") as file:
        return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # not a dict


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="/proc")
def test_a_layer_laid_out_anew_holds_its_file_no_more(mapped: dict[str, torch.Tensor]) -> None:
    layers = torch.nn.Sequential(*[Linear(WIDTH, WIDTH, bias=False) for _ in mapped])
    for layer, weight in zip(layers, mapped.values(), strict=True):
        layer.weight = torch.nn.Parameter(weight)
    mapped.clear()
    expected = layers(torch.ones(1, WIDTH))  # reads every page
    assert resident_mib("weights.safetensors") > 34
    pack_weights(layers, KernelConfig("onednn", "onednn"))
    assert resident_mib("weights.safetensors") < 1
    torch.testing.assert_close(layers(torch.ones(1, WIDTH)), expected)


def test_who_reads_after_all_reads_the_same(mapped: dict[str, torch.Tensor]) -> None:
    copies = {name: weight.clone() for name, weight in mapped.items()}
    for weight in (*mapped.values(), *copies.values()):  # copies are no file's: they must stay
        release_mapped_pages(weight)
    for name, weight in mapped.items():
        assert torch.equal(weight, copies[name]) and weight.abs().sum() > 0
