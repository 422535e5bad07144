"""Attention of many queries on a CPU in one compiled loop: what torch's kernel computes, at the speed of the machine's
matrix products.

Each row is computed in a fixed order from its own query and the keys it sees: neither its neighbors nor the number of
threads changes it.
"""

import numba
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from pipeline.kernels.checks import check_tensor
from pipeline.kernels.jit.compile import compiled, float32_pointer
from pipeline.kernels.jit.softmax import exp_in_place
from pipeline.kernels.jit.threads import ParallelKernel, num_threads, thread_number
from pipeline.kernels.jit.tile import COLUMNS, ROWS, multiply_tile

CACHE_LINE = 16  # floats


@compiled
def attend_block(q, q_row, k, v, v_row, out, out_row, num_keys, causal, query, scores, weighted, totals):  # type: ignore[no-untyped-def]  # numba infers the types
    """Attend with one block of queries of one head: len(totals) of them, at most ROWS.

    q, k, v and out are addresses, k packed in tiles; q_row, v_row and out_row are floats from row to row; `num_keys`
    is the number of keys that the last query sees. The rest is scratch: query (ROWS, D), scores (ROWS, T or more),
    weighted (ROWS, D or more).
    """
    D, rows = query.shape[1], len(totals)
    scale = np.float32(1.0) / np.sqrt(np.float32(D))
    query[rows:] = np.float32(0.0)
    for r in range(rows):
        own = numba.carray(float32_pointer(q + 4 * r * q_row), (D,))
        for d in range(D):
            query[r, d] = own[d] * scale
    for t in range(0, num_keys, COLUMNS):
        multiply_tile(query.ctypes.data, D, k + 4 * t * D, COLUMNS, scores[0, t:].ctypes.data, scores.shape[1], D)
    for r in range(rows):
        sees = num_keys - (rows - 1 - r) if causal else num_keys
        totals[r] = exp_in_place(scores[r], sees)
        scores[r, sees:num_keys] = np.float32(0.0)
    for d in range(0, weighted.shape[1], COLUMNS):
        multiply_tile(
            scores.ctypes.data, scores.shape[1], v + 4 * d, v_row, weighted[0, d:].ctypes.data, weighted.shape[1],
            num_keys,
        )  # fmt: skip
    for r in range(rows):
        to = numba.carray(float32_pointer(out + 4 * r * out_row), (D,))
        for d in range(D):
            to[d] = weighted[r, d] / totals[r]


@compiled
def scratch_offsets(T, D):  # type: ignore[no-untyped-def]
    """Where a thread's scores, weighted sums and totals start in its scratch, and where it ends: floats, in whole
    cache lines. Its queries start at 0."""
    scores = ROWS * D + -(ROWS * D) % CACHE_LINE
    weighted = scores + ROWS * (T + -T % COLUMNS)
    totals = weighted + ROWS * (D + -D % COLUMNS)
    return scores, weighted, totals, totals + CACHE_LINE


def attend_part(args):  # type: ignore[no-untyped-def]
    """One thread's blocks of queries.

    args: int64 [scratch_ptr, q_ptr, k_ptr, v_ptr, out_ptr, H, N, T, D, causal, q_head, q_row, v_head, v_row]; the last
    four are floats from head to head and from row to row. Scratch is (threads, scratch_offsets(T, D)[-1]) float32.
    """
    scratch, q, k, v, out, H, N, T, D = args[0], args[1], args[2], args[3], args[4], args[5], args[6], args[7], args[8]
    causal, q_head, q_row, v_head, v_row = args[9], args[10], args[11], args[12], args[13]
    width, weighted_width = T + -T % COLUMNS, D + -D % COLUMNS
    scores_at, weighted_at, totals_at, end = scratch_offsets(T, D)
    own = scratch + 4 * end * np.int64(thread_number())
    query = numba.carray(float32_pointer(own), (ROWS, D))
    scores = numba.carray(float32_pointer(own + 4 * scores_at), (ROWS, width))
    weighted = numba.carray(float32_pointer(own + 4 * weighted_at), (ROWS, weighted_width))
    totals = numba.carray(float32_pointer(own + 4 * totals_at), (ROWS,))
    blocks = (N + ROWS - 1) // ROWS
    item = np.int64(thread_number())  # every thread gets long and short causal blocks
    while item < H * blocks:  # not a range: numba's raises where its step is 0, and nothing here may raise
        h, first = item // blocks, item % blocks * ROWS
        rows = min(ROWS, N - first)
        attend_block(
            q + 4 * (h * q_head + first * q_row), q_row, k + 4 * h * D * width, v + 4 * h * v_head, v_row,
            out + 4 * (first * H + h) * D, H * D, first + rows if causal else T, causal, query, scores, weighted,
            totals[:rows],
        )  # fmt: skip
        item += num_threads()


class TiledAttention:
    """Attention of many queries on torch's own threads.

    Raises:
        RuntimeError: torch doesn't use GNU OpenMP here.
    """

    def __init__(self) -> None:
        self.kernel = ParallelKernel(attend_part)

    def __call__(self, q: Tensor, k: Tensor, v: Tensor, causal: bool) -> Tensor:
        """q (B, H, N, D), k and v (B, H, T, D), float32 -> (B, H, N, D); if causal, N = T.

        Raises:
            ValueError: a shape, dtype, device or stride that doesn't fit.
        """
        B, H, N, D = q.shape
        T = k.shape[2]
        for name, tensor, rows in (("q", q, N), ("k", k, T), ("v", v, T)):
            check_tensor(name, tensor, (B, H, rows, D), torch.float32, any_strides=True)
        if not (N and T and D) or (causal and N != T):
            raise ValueError(f"{N} queries and {T} keys of width {D}: none may be 0, and causal attention needs N = T")
        k = F.pad(k, (0, 0, 0, -T % COLUMNS)).unflatten(2, (-1, COLUMNS)).transpose(3, 4).contiguous()
        v = F.pad(v, (0, -D % COLUMNS))  # (B, H, T, D rounded up)
        out = torch.empty(B, N, H, D)  # in the order in which the next product reads it
        threads = torch.get_num_threads()
        scratch = torch.empty(threads, scratch_offsets(T, D)[-1])
        for b in range(B):
            pointers = (scratch.data_ptr(), *(x[b].data_ptr() for x in (q, k, v, out)))
            self.kernel(threads, *pointers, H, N, T, D, causal, *q.stride()[1:3], *v.stride()[1:3])
        return out.transpose(1, 2)
