"""Attention of many queries in bfloat16, against torch's in float32: blocks of queries and heads, causal and not."""

import pytest
import torch

from pipeline.model.attend import HEADS, QUERIES, bfloat16, plain

SHAPES = [  # B, H, N, T, causal
    (1, 12, 2 * QUERIES + 70, 2 * QUERIES + 70, True),
    (1, HEADS + 1, QUERIES, QUERIES, True),
    (2, 3, 40, 300, False),
    (3, 2, 17, 17, True),
    (1, 12, 1, 50, False),
]


@pytest.mark.parametrize(("B", "H", "N", "T", "causal"), SHAPES)
def test_near_float32(B: int, H: int, N: int, T: int, causal: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(B, rows, H, 16, generator=generator).transpose(1, 2) for rows in (N, T, T))
    exact = plain(q, k, v, causal)
    quick = bfloat16(q, k, v, causal)
    assert quick.shape == exact.shape and quick.dtype == torch.float32
    assert ((quick - exact).norm() / exact.norm()).item() < 0.01


def test_the_future_is_not_seen() -> None:
    q, k, v = (torch.randn(1, 2, QUERIES + 90, 16) for _ in range(3))
    before = bfloat16(q, k, v, True)
    k[:, :, 300:], v[:, :, 300:] = 100.0, 100.0
    assert torch.equal(bfloat16(q, k, v, True)[:, :, :300], before[:, :, :300])


def test_what_is_not_a_number_is_told() -> None:
    q, k, v = (torch.randn(1, 2, 20, 16) for _ in range(3))
    v[0, 1, 3, 0] = torch.nan
    assert bfloat16(q, k, v, False).isnan().any()
