"""How a product is computed changes little: exact ways low bits, int8 within its error."""

import pytest
import torch

from pipeline.kernels import matmul_backends as products
from pipeline.kernels.autotune import KernelConfig
from pipeline.kernels.linear import Linear
from pipeline.kernels.matmul_backends import MATMUL_BACKENDS, matmul_available

WIDE = [(768, 2304), (3072, 768)]  # (in, out), as in the published small models


def needs(name: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(not matmul_available(name), reason=f"this torch has no {name}")


@needs("onednn")
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("rows", [1, 8, 887])
def test_onednn_equals_plain(rows: int, bias: bool) -> None:
    layer = seeded(768, 2304, bias)
    x = torch.randn(2, rows, 768)
    plain = layer(x)
    layer.pack_weights(KernelConfig("onednn", "onednn"))
    torch.testing.assert_close(layer(x), plain, rtol=1e-5, atol=1e-5)
    assert layer.weight.numel() == 0  # nothing keeps the plain weight beside it


INT8_WAYS = [pytest.param(name, marks=needs(name)) for name in ("int8", "onednn_int8")]


@pytest.mark.parametrize("name", INT8_WAYS)
@pytest.mark.parametrize("bias", [False, True])
def test_int8_is_near_plain(name: str, bias: bool) -> None:
    layer = seeded(768, 2304, bias)
    x = torch.randn(2, 8, 768) * torch.logspace(-3, 3, 8)[:, None]  # rows of very different size
    plain = layer(x)
    layer.pack_weights(KernelConfig(name, name))
    error = (layer(x) - plain).norm(dim=-1) / plain.norm(dim=-1)
    assert error.max() < 0.03  # seven or eight bits of activations, eight of weights


@pytest.mark.parametrize("name", INT8_WAYS)
def test_int8_of_zeros_is_zero(name: str) -> None:
    layer = seeded(64, 64, bias=False)
    layer.pack_weights(KernelConfig(name, name))
    assert not layer(torch.zeros(2, 64)).any()


@pytest.mark.parametrize("name", INT8_WAYS)
@pytest.mark.parametrize("value", [torch.inf, -torch.inf, torch.nan])
def test_what_is_not_finite_stays_so_and_in_its_row(name: str, value: float) -> None:
    product = MATMUL_BACKENDS[name](torch.randn(48, 64), None)
    x = torch.randn(5, 64)
    x[2, 7] = value
    finite = torch.isfinite(product(x)).all(1)
    assert finite.tolist() == [True, True, False, True, True]


@needs("onednn_int8")
@pytest.mark.parametrize("rows", [1, 3, 100])
def test_rows_to_8_bits_and_back(rows: int) -> None:
    from pipeline.kernels.int8_matmul import Int8Rows

    x = torch.randn(rows, 77)
    quantized, size = Int8Rows().to_int8(x)
    expected = x.abs().amax(1) / 127
    torch.testing.assert_close(size, expected)
    assert (quantized - (x / expected[:, None])).abs().max() < 0.501
    scale = torch.rand(77)
    back = Int8Rows().from_int32(quantized.int(), size, scale)
    torch.testing.assert_close(back, quantized * size[:, None] * scale)


def test_int8_with_overflowing_sums_is_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    exact = torch._int_mm
    monkeypatch.setattr(torch, "_int_mm", lambda a, b: exact(a, b).clamp(-(2**15), 2**15 - 1))
    assert not products.sums_are_exact()
    assert not matmul_available("onednn_int8")


@pytest.mark.parametrize("name", [name for name in MATMUL_BACKENDS if matmul_available(name)])
@pytest.mark.parametrize("rows", [1, 2, 3, 4, 8, 12, 16, 32])
def test_a_row_does_not_feel_its_neighbours_or_its_place(name: str, rows: int) -> None:
    """What makes a batched row equal the same row alone, at the slots that are allowed."""
    for width, out in WIDE:
        product = MATMUL_BACKENDS[name](torch.randn(out, width), None)
        x = torch.randn(rows, width)
        y = product(x)
        for row in range(rows):
            others = torch.randn(rows, width) * 10
            place = (row + 3) % rows
            others[place] = x[row]
            assert torch.equal(product(others)[place], y[row])


def seeded(width: int, out: int, bias: bool) -> Linear:
    torch.manual_seed(0)
    layer = Linear(width, out, bias)
    layer.weight = torch.nn.Parameter(torch.randn(out, width) * width**-0.5)
    if layer.bias is not None:
        layer.bias = torch.nn.Parameter(torch.randn(out))
    return layer.requires_grad_(False)
