"""File-backed pages of unused weights leave the process, and no others do."""

import mmap
import re
import sys
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from pipeline.kernels.autotune import KernelConfig
from pipeline.kernels.linear import Linear, pack_weights
from pipeline.kernels.memory import anonymous_tensor, release_mapped_pages

WIDTH = 1500  # 9 MB a weight; not a whole number of pages


def resident_mib(file: str) -> float:
    """Resident memory of a file's mappings."""
    sizes = re.findall(rf"{re.escape(file)}\n.*?^Rss:\s+(\d+) kB", Path("/proc/self/smaps").read_text(), re.M | re.S)
    return sum(map(int, sizes)) / 1024


@pytest.fixture
def mapped(tmp_path: Path) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    save_file(
        {f"w{i}": torch.randn(WIDTH, WIDTH, generator=generator) / WIDTH**0.5 for i in range(4)},
        tmp_path / "weights.safetensors",
    )
    with safe_open(tmp_path / "weights.safetensors", framework="pt") as file:
        return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # not a dict


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="/proc")
def test_packed_layers_release_their_file(mapped: dict[str, torch.Tensor]) -> None:
    layers = torch.nn.Sequential(*[Linear(WIDTH, WIDTH, bias=False) for _ in mapped])
    for layer, weight in zip(layers, mapped.values(), strict=True):
        layer.weight = torch.nn.Parameter(weight)
    mapped.clear()
    expected = layers(torch.ones(1, WIDTH))  # reads every page
    assert resident_mib("weights.safetensors") > 34
    pack_weights(layers, KernelConfig("onednn", "onednn"))
    assert resident_mib("weights.safetensors") < 1
    torch.testing.assert_close(layers(torch.ones(1, WIDTH)), expected)


def test_released_pages_read_the_same(mapped: dict[str, torch.Tensor]) -> None:
    copies = {name: weight.clone() for name, weight in mapped.items()}
    for weight in (*mapped.values(), *copies.values()):  # copies are not file-backed: they must not be released
        release_mapped_pages(weight)
    for name, weight in mapped.items():
        assert torch.equal(weight, copies[name]) and weight.abs().sum() > 0


@pytest.mark.parametrize("missing", [("MAP_PRIVATE", "MAP_ANONYMOUS"), ("MADV_DONTNEED",)])
def test_missing_mmap_flags_are_no_error(
    missing: tuple[str, ...], mapped: dict[str, torch.Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in missing:
        monkeypatch.delattr(mmap, name)
    tensor = anonymous_tensor((3, 5), torch.bfloat16)
    assert tensor.shape == (3, 5) and tensor.dtype == torch.bfloat16 and not tensor.any()
    for weight in mapped.values():
        release_mapped_pages(weight)
        assert weight.any()
