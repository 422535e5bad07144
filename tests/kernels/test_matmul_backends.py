"""Backends agree: exact ones up to low bits, int8 within its error."""

import pytest
import torch

from pipeline.kernels import matmul_backends
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
    assert layer.weight.numel() == 0  # the plain weight is released


INT8_BACKENDS = [pytest.param(name, marks=needs(name)) for name in ("int8", "onednn_int8")]


@pytest.mark.parametrize("name", INT8_BACKENDS)
@pytest.mark.parametrize("bias", [False, True])
def test_int8_is_near_plain(name: str, bias: bool) -> None:
    layer = seeded(768, 2304, bias)
    x = torch.randn(2, 8, 768) * torch.logspace(-3, 3, 8)[:, None]  # rows of very different magnitude
    plain = layer(x)
    layer.pack_weights(KernelConfig(name, name))
    error = (layer(x) - plain).norm(dim=-1) / plain.norm(dim=-1)
    assert error.max() < 0.03  # seven or eight bits of activations, eight of weights


@pytest.mark.parametrize("name", INT8_BACKENDS)
def test_int8_of_zeros_is_zero(name: str) -> None:
    layer = seeded(64, 64, bias=False)
    layer.pack_weights(KernelConfig(name, name))
    assert not layer(torch.zeros(2, 64)).any()


@pytest.mark.parametrize("name", INT8_BACKENDS)
@pytest.mark.parametrize("value", [torch.inf, -torch.inf, torch.nan])
def test_nan_and_inf_stay_in_their_row(name: str, value: float) -> None:
    matmul = MATMUL_BACKENDS[name](torch.randn(48, 64), None)
    x = torch.randn(5, 64)
    x[2, 7] = value
    finite = torch.isfinite(matmul(x)).all(1)
    assert finite.tolist() == [True, True, False, True, True]


@needs("onednn_int8")
@pytest.mark.parametrize("rows", [1, 3, 100])
def test_conversion_to_int8_and_back(rows: int) -> None:
    from pipeline.kernels.int8_matmul import Int8Rows

    x = torch.randn(rows, 77)
    quantized, scales = Int8Rows().to_int8(x)
    expected = x.abs().amax(1) / 127
    torch.testing.assert_close(scales, expected)
    assert (quantized - (x / expected[:, None])).abs().max() < 0.501
    column_scales = torch.rand(77)
    back = Int8Rows().from_int32(quantized.int(), scales, column_scales)
    torch.testing.assert_close(back, quantized * scales[:, None] * column_scales)


@needs("onednn_int8")
@pytest.mark.parametrize(
    "x", [torch.ones(2, 3, dtype=torch.float64), torch.ones(2, 3, 4), torch.ones(2, device="meta")]
)
def test_wrong_rows_are_refused_before_compiled_code_runs(x: torch.Tensor) -> None:
    from pipeline.kernels.int8_matmul import Int8Rows

    convert = Int8Rows()
    convert.quantize = lambda *_: pytest.fail("was called")  # type: ignore[assignment]
    with pytest.raises(ValueError, match="x must be contiguous"):
        convert.to_int8(x)


@needs("onednn_int8")
@pytest.mark.parametrize(
    ("sums", "rows", "columns"),
    [
        (torch.ones(2, 3), torch.ones(2), torch.ones(3)),
        (torch.ones(3, 2, dtype=torch.int32).t(), torch.ones(2), torch.ones(3)),
        (torch.ones(2, 3, dtype=torch.int32), torch.ones(3), torch.ones(3)),
        (torch.ones(2, 3, dtype=torch.int32), torch.ones(2), torch.ones(6)[::2]),
        (torch.ones(2, 3, dtype=torch.int32), torch.ones(2), torch.ones(3).double()),
    ],
    ids=["float sums", "transposed sums", "too many rows", "strided columns", "float64 columns"],
)
def test_wrong_sums_are_refused_before_compiled_code_runs(
    sums: torch.Tensor, rows: torch.Tensor, columns: torch.Tensor
) -> None:
    from pipeline.kernels.int8_matmul import Int8Rows

    convert = Int8Rows()
    convert.scale = lambda *_: pytest.fail("was called")  # type: ignore[assignment]
    with pytest.raises(ValueError, match="must be contiguous"):
        convert.from_int32(sums, rows, columns)


def test_int8_with_overflowing_sums_is_not_available(monkeypatch: pytest.MonkeyPatch) -> None:
    exact = torch._int_mm
    monkeypatch.setattr(torch, "_int_mm", lambda a, b: exact(a, b).clamp(-(2**15), 2**15 - 1))
    assert not matmul_backends.sums_are_exact()
    assert not matmul_available("onednn_int8")


@pytest.mark.parametrize("name", [name for name in MATMUL_BACKENDS if matmul_available(name)])
@pytest.mark.parametrize("rows", [1, 2, 3, 4, 8, 12, 16, 32])
def test_row_does_not_depend_on_neighbors_or_position(name: str, rows: int) -> None:
    """A batched row equals the same row alone, at all allowed numbers of slots."""
    for width, out in WIDE:
        matmul = MATMUL_BACKENDS[name](torch.randn(out, width), None)
        x = torch.randn(rows, width)
        y = matmul(x)
        for row in range(rows):
            others = torch.randn(rows, width) * 10
            place = (row + 3) % rows
            others[place] = x[row]
            assert torch.equal(matmul(others)[place], y[row])


def seeded(width: int, out: int, bias: bool) -> Linear:
    torch.manual_seed(0)
    layer = Linear(width, out, bias)
    layer.weight = torch.nn.Parameter(torch.randn(out, width) * width**-0.5)
    if layer.bias is not None:
        layer.bias = torch.nn.Parameter(torch.randn(out))
    return layer.requires_grad_(False)
