"""Layouts change how a product is computed, not what: exact ones to low bits, int8 within its error."""

import pytest
import torch

from pipeline.model import linear
from pipeline.model.linear import INT8, PRODUCTS, Layout, Linear

WIDE = [(768, 2304), (3072, 768)]  # (in, out), as in the published small models


def needs(name: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(not linear.available(name), reason=f"this torch has no {name}")


@needs("onednn")
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("rows", [1, 8, 887])
def test_onednn_equals_plain(rows: int, bias: bool) -> None:
    layer = seeded(768, 2304, bias)
    x = torch.randn(2, rows, 768)
    plain = layer(x)
    layer.lay_out(Layout("onednn", "onednn"))
    torch.testing.assert_close(layer(x), plain, rtol=1e-5, atol=1e-5)
    assert layer.weight.numel() == 0  # nothing keeps the plain weight beside it


@needs("int8")
@pytest.mark.parametrize("bias", [False, True])
def test_int8_is_near_plain(bias: bool) -> None:
    layer = seeded(768, 2304, bias)
    x = torch.randn(16, 768) * torch.logspace(-3, 3, 16)[:, None]  # rows of very different size
    plain = layer(x)
    layer.lay_out(INT8)
    error = (layer(x) - plain).norm(dim=1) / plain.norm(dim=1)
    assert error.max() < 0.03  # seven bits of activations, eight of weights


@needs("int8")
def test_int8_of_zeros_is_zero() -> None:
    layer = seeded(64, 64, bias=False)
    layer.lay_out(INT8)
    assert not layer(torch.zeros(2, 64)).any()


@pytest.mark.parametrize("name", [name for name in PRODUCTS if linear.available(name)])
@pytest.mark.parametrize("rows", [1, 2, 3, 4, 8, 12, 16, 32])
def test_a_row_does_not_feel_its_neighbours_or_its_place(name: str, rows: int) -> None:
    """What makes a batched row equal the same row alone, at the slots that are allowed."""
    for width, out in WIDE:
        product = PRODUCTS[name](torch.randn(out, width), None)
        x = torch.randn(rows, width)
        y = product(x)
        for row in range(rows):
            others = torch.randn(rows, width) * 10
            place = (row + 3) % rows
            others[place] = x[row]
            assert torch.equal(product(others)[place], y[row])


def test_the_fastest_layout_is_kept_unless_another_is_clearly_faster(monkeypatch: pytest.MonkeyPatch) -> None:
    speed = {"onednn": 1.05, "plain": 1.0}
    monkeypatch.setattr(linear, "PRODUCTS", {name: (lambda w, b, n=name: n) for name in ("plain", "onednn")})
    monkeypatch.setattr(linear, "available", lambda name: True)
    monkeypatch.setattr(linear, "seconds", lambda product, x: speed[product])
    assert linear.measure_layout(8, 64, torch.float32) == Layout("onednn", "onednn")
    speed["onednn"] = 1.2
    assert linear.measure_layout(8, 64, torch.float32) == Layout("plain", "plain")


def seeded(width: int, out: int, bias: bool) -> Linear:
    torch.manual_seed(0)
    layer = Linear(width, out, bias)
    layer.weight = torch.nn.Parameter(torch.randn(out, width) * width**-0.5)
    if layer.bias is not None:
        layer.bias = torch.nn.Parameter(torch.randn(out))
    return layer.requires_grad_(False)
