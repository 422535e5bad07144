"""Our kernel against torch's, over lengths that differ by slot."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from pipeline.engine.attention import CPUAttention

S, H, T, D = 4, 3, 40, 24
LENGTHS = np.array([1, 40, 0, 17])


@pytest.fixture
def held() -> tuple[torch.Tensor, ...]:
    generator = torch.Generator().manual_seed(0)
    return tuple(torch.randn(shape, generator=generator) for shape in ((S, H, 1, D), (S, H, T, D), (S, H, T, D)))


def test_equals_torch_over_what_is_filled(held: tuple[torch.Tensor, ...]) -> None:
    q, k, v = held
    out = CPUAttention()(q, k, v, LENGTHS)
    for s, n in enumerate(LENGTHS):
        expected = F.scaled_dot_product_attention(q[s], k[s, :, :n], v[s, :, :n]) if n else torch.zeros(H, 1, D)
        torch.testing.assert_close(out[s], expected)


@pytest.mark.parametrize("threads", [2, 3, 5])
def test_threads_and_neighbours_change_nothing(
    held: tuple[torch.Tensor, ...], threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    q, k, v = held
    alone = CPUAttention()(q[1:2], k[1:2], v[1:2], LENGTHS[1:2])
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    assert torch.equal(CPUAttention()(q, k, v, LENGTHS)[1:2], alone)


@pytest.mark.parametrize("where", ["q", "k", "v"])
def test_what_is_not_a_number_stays_in_its_row(held: tuple[torch.Tensor, ...], where: str) -> None:
    q, k, v = held
    {"q": q, "k": k, "v": v}[where][1, 0, 0] = torch.nan
    out = CPUAttention()(q, k, v, LENGTHS)
    assert out[1, 0].isnan().any()
    assert not out[[0, 2, 3]].isnan().any() and not out[1, 1:].isnan().any()
