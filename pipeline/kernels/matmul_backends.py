"""Backends for the product of activations (..., in) and a weight (out, in), by name.

`plain`        torch's own; on a GPU the only one
`onednn`       the weight is reordered once for oneDNN's kernels
`int8`         8-bit weights, one scale per output channel, 7-bit activations: AVX2 adds pairs of products in 16 bits
`onednn_int8`  8-bit weights and activations, where the processor adds in 32 bits (VNNI, AMX): faster with many rows

In both int8 backends each row of activations has its own scale, so that it doesn't depend on the other rows, as it
would with torch's dynamic quantization (one scale for the batch). All but `plain` use private or deprecated operators
of torch: `matmul_available` checks whether they exist.
"""

import warnings
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from pipeline.kernels.reference import use_reference

MatMul = Callable[[Tensor], Tensor]  # (..., in) -> (..., out)


def plain_matmul(weight: Tensor, bias: Tensor | None) -> MatMul:
    return lambda x: F.linear(x, weight, bias)


def onednn_matmul(weight: Tensor, bias: Tensor | None) -> MatMul:
    packed = torch.ops.mkldnn._reorder_linear_weight(weight.detach().contiguous(), None)
    return lambda x: torch.ops.mkldnn._linear_pointwise(x, packed, bias, "none", [], "")


def int8_matmul(weight: Tensor, bias: Tensor | None) -> MatMul:
    """Scales each row to [-1, 1] before fbgemm's product, which has one scale for all rows."""
    scale = weight.abs().amax(1).clamp_min(1e-12) / 127
    zero = torch.zeros(len(weight), dtype=torch.int64)
    with warnings.catch_warnings():  # torch warns that quantized tensors are deprecated
        warnings.simplefilter("ignore")
        quantized = torch.quantize_per_channel(weight.detach().float(), scale.double(), zero, 0, torch.qint8)
    packed = torch.ops.quantized.linear_prepack(quantized, None)
    multiply = torch.ops.quantized.linear_with_input_q_dq_qweight_dq_output_fp32

    def matmul(x: Tensor) -> Tensor:
        row_scales = x.abs().amax(-1, keepdim=True).clamp_min_(1e-12)
        y = multiply(x / row_scales, 1 / 63, 64, packed).mul_(row_scales)
        return y if bias is None else y.add_(bias)

    return matmul


def onednn_int8_matmul(weight: Tensor, bias: Tensor | None) -> MatMul:
    # imported here: numba takes time and 57 MiB, which processes that never multiply can save
    from pipeline.kernels.int8_matmul import Int8Rows

    if not sums_are_exact():
        raise RuntimeError("sums of 8-bit products overflow on this processor")
    convert = Int8Rows()
    weights, column_scales = convert.to_int8(weight.detach().float())

    def matmul(x: Tensor) -> Tensor:
        rows, row_scales = convert.to_int8(x.reshape(-1, x.shape[-1]))
        y = convert.from_int32(torch._int_mm(rows, weights.t()), row_scales, column_scales).view(*x.shape[:-1], -1)
        return y if bias is None else y.add_(bias)

    return matmul


def sums_are_exact() -> bool:
    """Whether oneDNN adds the largest 8-bit products without overflow: without VNNI its kernels overflow."""
    largest = torch.full((32, 64), 127, dtype=torch.int8)
    return bool((torch._int_mm(largest, largest.t()) == 64 * 127**2).all())


MATMUL_BACKENDS: dict[str, Callable[[Tensor, Tensor | None], MatMul]] = {
    "plain": plain_matmul,
    "onednn": onednn_matmul,
    "int8": int8_matmul,
    "onednn_int8": onednn_int8_matmul,
}


def matmul_available(name: str) -> bool:
    """Whether this process can use a backend: tries a product of ones."""
    if name != "plain" and use_reference():
        return False
    if name == "int8" and "fbgemm" not in torch.backends.quantized.supported_engines:
        return False
    try:
        MATMUL_BACKENDS[name](torch.ones(4, 8), None)(torch.ones(1, 8))
    except (AttributeError, RuntimeError):
        return False
    return True
