"""Our kernel against torch's, over lengths that differ by slot."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from pipeline.kernels.decode_attention import CPUAttention, OpenMPRunner, ThreadPoolRunner, openmp

S, H, T, D = 4, 3, 40, 24
LENGTHS = np.array([1, 40, 0, 17])
Held = tuple[torch.Tensor, torch.Tensor, torch.Tensor]


@pytest.fixture(params=[torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
def held(request: pytest.FixtureRequest) -> Held:
    """A step's queries, keys and values, and what the cache holds."""
    generator = torch.Generator().manual_seed(0)
    qkv, k, v = (torch.randn(shape, generator=generator) for shape in ((S, 3 * H * D), (S, H, T, D), (S, H, T, D)))
    return qkv, k.to(request.param), v.to(request.param)


@pytest.fixture(params=["team", "threads"], autouse=True)
def runner(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """With torch's threads, and with our own where there are none of torch's to be had."""
    if request.param == "threads":
        monkeypatch.setattr("pipeline.kernels.decode_attention.openmp", lambda: None)
    elif not openmp():
        pytest.skip("torch brings no GNU OpenMP here")
    assert isinstance(CPUAttention().run, OpenMPRunner if request.param == "team" else ThreadPoolRunner)


def test_equals_torch_over_what_is_filled(held: Held) -> None:
    qkv, k, v = held
    out = CPUAttention()(qkv, k, v, LENGTHS)
    for s, n in enumerate(LENGTHS):
        query, key, value = qkv[s].view(3, H, 1, D)
        if n:
            assert torch.equal(k[s, :, n - 1], key[:, 0].to(k.dtype))
            assert torch.equal(v[s, :, n - 1], value[:, 0].to(v.dtype))
            expected = F.scaled_dot_product_attention(query, k[s, :, :n].float(), v[s, :, :n].float())
        else:
            expected = torch.zeros(H, 1, D)
        torch.testing.assert_close(out[s], expected.flatten())


def test_only_the_new_position_is_written(held: Held) -> None:
    qkv, k, v = held
    before = k.clone(), v.clone()
    CPUAttention()(qkv, k, v, LENGTHS)
    for after, old in zip((k, v), before, strict=True):
        changed = (after != old).any(-1).any(1)  # (S, T)
        assert changed.nonzero().tolist() == [[s, n - 1] for s, n in enumerate(LENGTHS) if n]


@pytest.mark.parametrize("threads", [2, 3, 5])
def test_threads_and_neighbours_change_nothing(held: Held, threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    qkv, k, v = held
    alone = CPUAttention()(qkv[1:2], k[1:2], v[1:2], LENGTHS[1:2])
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    assert torch.equal(CPUAttention()(qkv, k, v, LENGTHS)[1:2], alone)


@pytest.mark.parametrize("part", [0, 1, 2])
def test_what_is_not_a_number_stays_in_its_row(held: Held, part: int) -> None:
    qkv, k, v = held
    qkv[1].view(3, H, D)[part, 0] = torch.nan
    out = CPUAttention()(qkv, k, v, LENGTHS).view(S, H, D)
    assert out[1, 0].isnan().any()
    assert not out[[0, 2, 3]].isnan().any() and not out[1, 1:].isnan().any()


def test_queries_of_a_model_in_bfloat16(held: Held) -> None:
    qkv, k, v = held
    exact = CPUAttention()(qkv.bfloat16().float(), k.clone(), v.clone(), LENGTHS)
    half = CPUAttention()(qkv.bfloat16(), k, v, LENGTHS)
    assert half.dtype == torch.bfloat16 and torch.equal(half, exact.bfloat16())
