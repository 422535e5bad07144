"""Rows of floats to 8 bits and back, each in one pass over memory, on torch's own threads.

torch's operators take five passes, half of the time that the faster product gains (docs/log.md).
"""

import numba
import numpy as np
import torch
from torch import Tensor

from pipeline.kernels.jit.compile import BUT_SIGN, bits_of, compiled, float32_at, float_of, int8_at, int32_at
from pipeline.kernels.jit.threads import OnTorchThreads, share

LARGEST = np.float32(127.0)
SMALLEST = np.float32(1e-12).view(np.int32)  # as bits: a row of zeros is divided by it


@compiled
def quantize_rows(x, rows, size, first, stop):  # type: ignore[no-untyped-def]  # numba infers them
    """x (M, K) float32; rows (M, K) int8, size (M,) float32: x ≈ rows * size.

    What is not finite makes its row's size so: of two floats without a sign the larger one has the larger bits, and
    infinity and NaN the largest.
    """
    for m in range(first, stop):
        largest = SMALLEST
        for k in range(x.shape[1]):
            largest = max(largest, bits_of(x[m, k]) & BUT_SIGN)
        size[m] = float_of(largest) / LARGEST
        up = np.float32(1.0) / size[m]
        for k in range(x.shape[1]):
            rows[m, k] = np.int8(np.int32(np.rint(x[m, k] * up)))


@compiled
def scale_rows(sums, size, scale, y, first, stop):  # type: ignore[no-untyped-def]
    """sums (M, N) int32, size (M,), scale (N,), y (M, N) float32: y = sums * size * scale."""
    for m in range(first, stop):
        for n in range(sums.shape[1]):
            y[m, n] = np.float32(sums[m, n]) * (size[m] * scale[n])


def quantize_part(args):  # type: ignore[no-untyped-def]
    """One thread's rows. `args`: where x, rows and size lie, then M, K."""
    M, K = args[3], args[4]
    x = numba.carray(float32_at(args[0]), (M, K))
    rows, size = numba.carray(int8_at(args[1]), (M, K)), numba.carray(float32_at(args[2]), (M,))
    first, stop = share(M)
    quantize_rows(x, rows, size, first, stop)


def scale_part(args):  # type: ignore[no-untyped-def]
    """One thread's rows. `args`: where sums, size, scale and y lie, then M, N."""
    M, N = args[4], args[5]
    sums, size = numba.carray(int32_at(args[0]), (M, N)), numba.carray(float32_at(args[1]), (M,))
    scale, y = numba.carray(float32_at(args[2]), (N,)), numba.carray(float32_at(args[3]), (M, N))
    first, stop = share(M)
    scale_rows(sums, size, scale, y, first, stop)


class Int8Rows:
    """
    Raises:
        RuntimeError: torch's threads can't be had here.
    """

    def __init__(self) -> None:
        self.quantize, self.scale = OnTorchThreads(quantize_part), OnTorchThreads(scale_part)

    def to_int8(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """x (M, K) float32 -> rows (M, K) int8 and size (M,) float32, with x ≈ rows * size."""
        x = x.contiguous()
        rows, size = torch.empty(x.shape, dtype=torch.int8), torch.empty(len(x))
        self.quantize(x.data_ptr(), rows.data_ptr(), size.data_ptr(), *x.shape)
        return rows, size

    def from_int32(self, sums: Tensor, size: Tensor, scale: Tensor) -> Tensor:
        """sums (M, N) int32, size (M,), scale (N,) -> sums * size * scale (M, N) float32."""
        y = torch.empty(sums.shape)
        self.scale(sums.data_ptr(), size.data_ptr(), scale.data_ptr(), y.data_ptr(), *sums.shape)
        return y
