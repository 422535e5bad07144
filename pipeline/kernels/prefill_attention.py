"""Attention of many queries in one compiled loop: what torch's kernel does, at the rate of the machine's products.

A row's numbers are made in a fixed order from its own query and what it sees: neither the rows beside it nor the
number of threads can change them.
"""

import numba
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from pipeline.kernels.jit.compile import compiled, float32_at
from pipeline.kernels.jit.softmax import exponentials
from pipeline.kernels.jit.threads import OnTorchThreads, num_threads, thread_number
from pipeline.kernels.jit.tile import COLUMNS, ROWS, multiply_tile


@compiled
def attend_block(q, q_row, k, v, v_row, out, out_row, seen, causal, query, scores, mixed, totals):  # type: ignore[no-untyped-def]
    """As many queries of one head as `totals` has. q, k, v and out: where they lie, k packed. The rest is room to work
    in: query (ROWS, D), scores (ROWS, T or more), mixed (ROWS, D or more)."""
    D, rows = query.shape[1], len(totals)
    scale = np.float32(1.0) / np.sqrt(np.float32(D))
    for r in range(rows):
        own = numba.carray(float32_at(q + 4 * r * q_row), (D,))
        for d in range(D):
            query[r, d] = own[d] * scale
    for t in range(0, seen, COLUMNS):
        multiply_tile(query.ctypes.data, D, k + 4 * t * D, COLUMNS, scores[0, t:].ctypes.data, scores.shape[1], D)
    for r in range(rows):
        sees = seen - (rows - 1 - r) if causal else seen
        totals[r] = exponentials(scores[r], sees)
        scores[r, sees:seen] = np.float32(0.0)
    for d in range(0, mixed.shape[1], COLUMNS):
        multiply_tile(
            scores.ctypes.data, scores.shape[1], v + 4 * d, v_row, mixed[0, d:].ctypes.data, mixed.shape[1], seen
        )
    for r in range(rows):
        to = numba.carray(float32_at(out + 4 * r * out_row), (D,))
        for d in range(D):
            to[d] = mixed[r, d] / totals[r]


def attend_part(args):  # type: ignore[no-untyped-def]
    """One thread's blocks. `args`: where q, k, v and out lie, then H, N, T, D, whether causal, and the floats from head
    to head and from row to row of q and v."""
    q, k, v, out, H, N, T, D, causal = args[0], args[1], args[2], args[3], args[4], args[5], args[6], args[7], args[8]
    q_head, q_row, v_head, v_row = args[9], args[10], args[11], args[12]
    width, mixed_width = T + -T % COLUMNS, D + -D % COLUMNS
    query, scores = np.zeros((ROWS, D), np.float32), np.zeros((ROWS, width), np.float32)
    mixed, totals = np.empty((ROWS, mixed_width), np.float32), np.empty(ROWS, np.float32)
    blocks = (N + ROWS - 1) // ROWS
    for item in range(thread_number(), H * blocks, num_threads()):  # long and short causal ones to every thread
        h, first = item // blocks, item % blocks * ROWS
        rows = min(ROWS, N - first)
        attend_block(
            q + 4 * (h * q_head + first * q_row), q_row, k + 4 * h * D * width, v + 4 * h * v_head, v_row,
            out + 4 * (first * H + h) * D, H * D, first + rows if causal else T, causal, query, scores, mixed,
            totals[:rows],
        )  # fmt: skip


class TiledAttention:
    """
    Raises:
        RuntimeError: torch's threads can't be had here.
    """

    def __init__(self) -> None:
        self.kernel = OnTorchThreads(attend_part)

    def __call__(self, q: Tensor, k: Tensor, v: Tensor, causal: bool) -> Tensor:
        """As `attend.plain`, float32; a row's numbers lie side by side."""
        assert q.stride(3) == v.stride(3) == 1
        B, H, N, D = q.shape
        T = k.shape[2]
        k = F.pad(k, (0, 0, 0, -T % COLUMNS)).unflatten(2, (-1, COLUMNS)).transpose(3, 4).contiguous()
        v = F.pad(v, (0, -D % COLUMNS))  # B, H, T, D'
        out = torch.empty(B, N, H, D)  # as the next product reads it
        for b in range(B):
            places = (x[b].data_ptr() for x in (q, k, v, out))
            self.kernel(*places, H, N, T, D, causal, *q.stride()[1:3], *v.stride()[1:3])
        return out.transpose(1, 2)
