"""The prefill kernel against torch's attention: partial blocks, heads of any width, causal and not."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from pipeline.kernels.attention_backends import attention_available, plain_attention, tiled_attention
from pipeline.kernels.jit.softmax import exp_in_place
from pipeline.kernels.jit.tile import COLUMNS, ROWS
from pipeline.kernels.openmp import torch_openmp
from pipeline.kernels.prefill_attention import TiledAttention

pytestmark = pytest.mark.skipif(torch_openmp() is None, reason="this torch doesn't use GNU OpenMP")

SHAPES = [  # B, H, N, T, D, causal
    (1, 12, 2 * COLUMNS + 7, 2 * COLUMNS + 7, 64, True),
    (1, 3, ROWS, COLUMNS, 64, False),
    (2, 3, 40, 300, 16, False),
    (3, 2, 17, 17, COLUMNS + 8, True),
    (1, 12, 1, 50, 64, False),
]


def queries(B: int, H: int, N: int, T: int, D: int) -> list[Tensor]:
    """Random q, k, v with a model's strides: rows of all heads, whose heads are a view."""
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(B, rows, H, D, generator=generator).transpose(1, 2) for rows in (N, T, T)]


@pytest.mark.parametrize(("B", "H", "N", "T", "D", "causal"), SHAPES)
def test_equals_torch(B: int, H: int, N: int, T: int, D: int, causal: bool) -> None:
    q, k, v = queries(B, H, N, T, D)
    exact = plain_attention(q.double(), k.double(), v.double(), causal)
    found = tiled_attention(q, k, v, causal)
    assert found.shape == exact.shape and found.dtype == torch.float32
    assert (found - exact).abs().max().item() < 2e-6


def test_scores_of_any_size() -> None:
    q, k, v = queries(1, 2, 90, 90, 64)
    torch.testing.assert_close(
        tiled_attention(100 * q, k, v, True), plain_attention(100 * q, k, v, True), atol=1e-4, rtol=1e-4
    )
    torch.testing.assert_close(tiled_attention(0 * q, k, v, True), plain_attention(0 * q, k, v, True))


def test_row_does_not_depend_on_threads_or_neighbors() -> None:
    q, k, v = queries(1, 3, 100, 100, 64)
    before, threads = tiled_attention(q, k, v, True), torch.get_num_threads()
    k[:, :, 60:], v[:, :, 60:], q[:, :, 60:] = 100.0, 100.0, -7.0
    torch.set_num_threads(1 if threads > 1 else 2)
    try:
        after = tiled_attention(q, k, v, True)
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(after[:, :, :60], before[:, :, :60])
    assert not torch.equal(after[:, :, 60:], before[:, :, 60:])


@pytest.mark.parametrize("which", range(3))
def test_nan_stays_in_the_rows_that_see_it(which: int) -> None:
    inputs = queries(1, 2, 20, 20, 16)
    inputs[which][0, 1, 3, 0] = torch.nan
    out = tiled_attention(*inputs, True)
    assert out[0, 1, 3].isnan().any() and out[0, 0].isfinite().all()


@pytest.mark.parametrize("spread", [0.1, 1.0, 30.0])
def test_exp_in_place(spread: float) -> None:
    scores = np.random.default_rng(0).normal(size=333).astype(np.float32) * np.float32(spread)
    exact = np.exp(scores[:300].astype(np.float64) - scores[:300].max())
    found = scores.copy()
    total = exp_in_place(found, 300)
    np.testing.assert_allclose(found[:300], exact, rtol=1e-5, atol=1e-30)
    assert np.array_equal(found[300:], scores[300:])
    assert total == pytest.approx(exact.sum(), rel=1e-6)


def test_tiled_backend_is_for_float32_only() -> None:
    assert attention_available("tiled", torch.float32) and not attention_available("tiled", torch.bfloat16)
    assert attention_available("plain", torch.bfloat16)


WRONG_INPUTS = {
    "other dtype": lambda q, k, v: (q.double(), k, v, False),
    "mixed dtypes": lambda q, k, v: (q, k, v.bfloat16(), False),
    "other device": lambda q, k, v: (q, k.to("meta"), v, False),
    "strided rows": lambda q, k, v: (q[..., ::2], k[..., :8], v[..., :8], False),
    "transposed": lambda q, k, v: (q, k, v.transpose(2, 3).contiguous().transpose(2, 3), False),
    "other heads": lambda q, k, v: (q, k[:, :1], v, False),
    "fewer values": lambda q, k, v: (q, k, v[:, :, :-1], False),
    "causal of another length": lambda q, k, v: (q[:, :, :-1], k, v, True),
    "no keys": lambda q, k, v: (q, k[:, :, :0], v[:, :, :0], False),
}


@pytest.mark.parametrize("change", WRONG_INPUTS.values(), ids=WRONG_INPUTS)
def test_wrong_inputs_are_refused_before_compiled_code_runs(change: Callable[..., tuple]) -> None:
    attention = TiledAttention()
    attention.kernel = lambda *_: pytest.fail("was called")  # type: ignore[assignment]
    with pytest.raises(ValueError, match=r"must be|none may be 0"):
        attention(*change(*queries(1, 2, 20, 20, 16)))
