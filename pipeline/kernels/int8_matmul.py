"""Conversion of float rows to int8 and of int32 sums to floats, each in one pass over memory, on torch's own threads.

torch's operators take five passes, which is half of the time that the faster product gains (docs/log.md).
"""

import numba
import numpy as np
import torch
from torch import Tensor

from pipeline.kernels.checks import check_tensor
from pipeline.kernels.jit.compile import (
    ABS_MASK,
    bits_to_float,
    compiled,
    float32_pointer,
    float_to_bits,
    int8_pointer,
    int32_pointer,
)
from pipeline.kernels.jit.threads import ParallelKernel, thread_range

MAX_INT8 = np.float32(127.0)
MIN_ABS_BITS = np.float32(1e-12).view(np.int32)  # a row of zeros is divided by this float instead of 0


@compiled
def quantize_rows(x, rows, scales, first, end):  # type: ignore[no-untyped-def]  # numba infers the types
    """Quantize rows first ... end - 1. x (M, K) float32; rows (M, K) int8, scales (M,) float32: x ≈ rows * scales.

    NaN or infinity propagates to its row's scale: the bits of floats without a sign are ordered as the floats are,
    with infinity and NaN at the top.
    """
    for m in range(first, end):
        largest = MIN_ABS_BITS
        for k in range(x.shape[1]):
            largest = max(largest, float_to_bits(x[m, k]) & ABS_MASK)
        scales[m] = bits_to_float(largest) / MAX_INT8
        inverse = np.float32(1.0) / scales[m]
        for k in range(x.shape[1]):
            rows[m, k] = np.int8(np.int32(np.rint(x[m, k] * inverse)))


@compiled
def scale_rows(sums, row_scales, column_scales, y, first, end):  # type: ignore[no-untyped-def]
    """sums (M, N) int32, row_scales (M,), column_scales (N,), y (M, N) float32: y = sums * both scales."""
    for m in range(first, end):
        for n in range(sums.shape[1]):
            y[m, n] = np.float32(sums[m, n]) * (row_scales[m] * column_scales[n])


def quantize_part(args):  # type: ignore[no-untyped-def]
    """One thread's rows. args: int64 [x_ptr, rows_ptr, scales_ptr, M, K]."""
    M, K = args[3], args[4]
    x = numba.carray(float32_pointer(args[0]), (M, K))
    rows, scales = numba.carray(int8_pointer(args[1]), (M, K)), numba.carray(float32_pointer(args[2]), (M,))
    first, end = thread_range(M)
    quantize_rows(x, rows, scales, first, end)


def scale_part(args):  # type: ignore[no-untyped-def]
    """One thread's rows. args: int64 [sums_ptr, row_scales_ptr, column_scales_ptr, y_ptr, M, N]."""
    M, N = args[4], args[5]
    sums, row_scales = numba.carray(int32_pointer(args[0]), (M, N)), numba.carray(float32_pointer(args[1]), (M,))
    column_scales, y = numba.carray(float32_pointer(args[2]), (N,)), numba.carray(float32_pointer(args[3]), (M, N))
    first, end = thread_range(M)
    scale_rows(sums, row_scales, column_scales, y, first, end)


class Int8Rows:
    """The conversions around an int8 product, on torch's own threads.

    Raises:
        RuntimeError: torch doesn't use GNU OpenMP here.
    """

    def __init__(self) -> None:
        self.quantize, self.scale = ParallelKernel(quantize_part), ParallelKernel(scale_part)

    def to_int8(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """x (M, K) float32 -> rows (M, K) int8 and scales (M,) float32, with x ≈ rows * scales.

        Raises:
            ValueError: x is of another dtype or number of dimensions, or not on the CPU.
        """
        x = x.contiguous()
        check_tensor("x", x, (len(x), x.shape[-1]), torch.float32)
        rows, scales = torch.empty(x.shape, dtype=torch.int8), torch.empty(len(x))
        self.quantize(torch.get_num_threads(), x.data_ptr(), rows.data_ptr(), scales.data_ptr(), *x.shape)
        return rows, scales

    def from_int32(self, sums: Tensor, row_scales: Tensor, column_scales: Tensor) -> Tensor:
        """sums (M, N) int32, row_scales (M,) and column_scales (N,) float32 -> sums * both scales (M, N) float32.

        Raises:
            ValueError: a shape, dtype or device that doesn't fit, or a tensor that is not contiguous.
        """
        M, N = sums.shape
        check_tensor("sums", sums, (M, N), torch.int32)
        check_tensor("row_scales", row_scales, (M,), torch.float32)
        check_tensor("column_scales", column_scales, (N,), torch.float32)
        y = torch.empty(M, N)
        pointers = (tensor.data_ptr() for tensor in (sums, row_scales, column_scales, y))
        self.scale(torch.get_num_threads(), *pointers, M, N)
        return y
