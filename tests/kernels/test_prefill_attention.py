"""Attention of many queries, our way against torch's: blocks that are not full, heads of any width, causal and not."""

import numpy as np
import pytest
import torch
from torch import Tensor

from pipeline.kernels.attention_backends import attention_available, plain, tiled
from pipeline.kernels.jit.softmax import exponentials
from pipeline.kernels.jit.threads import openmp
from pipeline.kernels.jit.tile import COLUMNS, ROWS

pytestmark = pytest.mark.skipif(openmp() is None, reason="torch has no GNU OpenMP here")

SHAPES = [  # B, H, N, T, D, causal
    (1, 12, 2 * COLUMNS + 7, 2 * COLUMNS + 7, 64, True),
    (1, 3, ROWS, COLUMNS, 64, False),
    (2, 3, 40, 300, 16, False),
    (3, 2, 17, 17, COLUMNS + 8, True),
    (1, 12, 1, 50, 64, False),
]


def queries(B: int, H: int, N: int, T: int, D: int) -> list[Tensor]:
    """As a model's products leave them: rows of all heads, of which heads are a view."""
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(B, rows, H, D, generator=generator).transpose(1, 2) for rows in (N, T, T)]


@pytest.mark.parametrize(("B", "H", "N", "T", "D", "causal"), SHAPES)
def test_equals_torchs(B: int, H: int, N: int, T: int, D: int, causal: bool) -> None:
    q, k, v = queries(B, H, N, T, D)
    exact = plain(q.double(), k.double(), v.double(), causal)
    ours = tiled(q, k, v, causal)
    assert ours.shape == exact.shape and ours.dtype == torch.float32
    assert (ours - exact).abs().max().item() < 2e-6


def test_scores_of_any_size() -> None:
    q, k, v = queries(1, 2, 90, 90, 64)
    torch.testing.assert_close(tiled(100 * q, k, v, True), plain(100 * q, k, v, True), atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(tiled(0 * q, k, v, True), plain(0 * q, k, v, True))


def test_a_row_cannot_feel_its_neighbours_nor_the_threads() -> None:
    q, k, v = queries(1, 3, 100, 100, 64)
    before, threads = tiled(q, k, v, True), torch.get_num_threads()
    k[:, :, 60:], v[:, :, 60:], q[:, :, 60:] = 100.0, 100.0, -7.0
    torch.set_num_threads(1 if threads > 1 else 2)
    try:
        after = tiled(q, k, v, True)
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(after[:, :, :60], before[:, :, :60])
    assert not torch.equal(after[:, :, 60:], before[:, :, 60:])


@pytest.mark.parametrize("which", range(3))
def test_what_is_not_a_number_is_told(which: int) -> None:
    inputs = queries(1, 2, 20, 20, 16)
    inputs[which][0, 1, 3, 0] = torch.nan
    out = tiled(*inputs, True)
    assert out[0, 1, 3].isnan().any() and out[0, 0].isfinite().all()


@pytest.mark.parametrize("spread", [0.1, 1.0, 30.0])
def test_exponentials(spread: float) -> None:
    scores = np.random.default_rng(0).normal(size=333).astype(np.float32) * np.float32(spread)
    exact = np.exp(scores[:300].astype(np.float64) - scores[:300].max())
    ours = scores.copy()
    total = exponentials(ours, 300)
    np.testing.assert_allclose(ours[:300], exact, rtol=1e-5, atol=1e-30)
    assert np.array_equal(ours[300:], scores[300:])
    assert total == pytest.approx(exact.sum(), rel=1e-6)


def test_only_float32_is_done_our_way() -> None:
    assert attention_available("tiled", torch.float32) and not attention_available("tiled", torch.bfloat16)
    assert attention_available("plain", torch.bfloat16)
