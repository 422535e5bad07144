"""The ways to multiply activations (..., in) with a weight (out, in), by name.

`plain`        torch's own; on a GPU the only one
`onednn`       the weight is reordered once for oneDNN's kernels
`int8`         8-bit weights, one scale per output channel, 7-bit activations: AVX2 adds pairs of products in 16 bits
`onednn_int8`  8-bit weights and activations, where the processor adds in 32 bits (VNNI, AMX): faster with many rows

In both int8 ways each row of activations has a scale of its own, so that it can't feel its neighbours, as it would
with torch's dynamic quantization (one scale for the batch). All but the first are private operators of torch, or ones
that are to go one day: `matmul_available` tells whether they are there.
"""

import warnings
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

MatMul = Callable[[Tensor], Tensor]  # (..., in) -> (..., out)


def plain_matmul(weight: Tensor, bias: Tensor | None) -> MatMul:
    return lambda x: F.linear(x, weight, bias)


def onednn_matmul(weight: Tensor, bias: Tensor | None) -> MatMul:
    packed = torch.ops.mkldnn._reorder_linear_weight(weight.detach().contiguous(), None)
    return lambda x: torch.ops.mkldnn._linear_pointwise(x, packed, bias, "none", [], "")


def int8_matmul(weight: Tensor, bias: Tensor | None) -> MatMul:
    """Each row is scaled to [-1, 1] before fbgemm's product, which has one scale."""
    scale = weight.abs().amax(1).clamp_min(1e-12) / 127
    zero = torch.zeros(len(weight), dtype=torch.int64)
    with warnings.catch_warnings():  # about quantized tensors, which are to go
        warnings.simplefilter("ignore")
        quantized = torch.quantize_per_channel(weight.detach().float(), scale.double(), zero, 0, torch.qint8)
    packed = torch.ops.quantized.linear_prepack(quantized, None)
    multiply = torch.ops.quantized.linear_with_input_q_dq_qweight_dq_output_fp32

    def product(x: Tensor) -> Tensor:
        size = x.abs().amax(-1, keepdim=True).clamp_min_(1e-12)
        y = multiply(x / size, 1 / 63, 64, packed).mul_(size)
        return y if bias is None else y.add_(bias)

    return product


def onednn_int8_matmul(weight: Tensor, bias: Tensor | None) -> MatMul:
    from pipeline.kernels.int8_matmul import Int8Rows  # here: numba takes a moment, and who doesn't multiply needs none

    if not sums_are_exact():
        raise RuntimeError("sums of products of 8 bits overflow on this processor")
    convert = Int8Rows()
    weights, scale = convert.to_int8(weight.detach().float())

    def product(x: Tensor) -> Tensor:
        rows, size = convert.to_int8(x.reshape(-1, x.shape[-1]))
        y = convert.from_int32(torch._int_mm(rows, weights.t()), size, scale).view(*x.shape[:-1], -1)
        return y if bias is None else y.add_(bias)

    return product


def sums_are_exact() -> bool:
    """Whether oneDNN adds the largest products rightly: without VNNI its kernels overflow."""
    largest = torch.full((32, 64), 127, dtype=torch.int8)
    return bool((torch._int_mm(largest, largest.t()) == 64 * 127**2).all())


MATMUL_BACKENDS: dict[str, Callable[[Tensor, Tensor | None], MatMul]] = {
    "plain": plain_matmul,
    "onednn": onednn_matmul,
    "int8": int8_matmul,
    "onednn_int8": onednn_int8_matmul,
}


def matmul_available(name: str) -> bool:
    """Whether this processor and this build of torch can compute that way: a product of ones is tried."""
    if name == "int8" and "fbgemm" not in torch.backends.quantized.supported_engines:
        return False
    try:
        MATMUL_BACKENDS[name](torch.ones(4, 8), None)(torch.ones(1, 8))
    except (AttributeError, RuntimeError):
        return False
    return True
