"""The decode kernel against torch's attention, with lengths that differ by slot."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from pipeline.kernels.decode_attention import CPUAttention, OpenMPRunner, ThreadPoolRunner
from pipeline.kernels.openmp import torch_openmp

S, H, T, D = 4, 3, 40, 24
LENGTHS = np.array([1, 40, 0, 17])
Inputs = tuple[torch.Tensor, torch.Tensor, torch.Tensor]


@pytest.fixture(params=[torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
def inputs(request: pytest.FixtureRequest) -> Inputs:
    """A step's queries, keys and values, and a filled cache."""
    generator = torch.Generator().manual_seed(0)
    qkv, k, v = (torch.randn(shape, generator=generator) for shape in ((S, 3 * H * D), (S, H, T, D), (S, H, T, D)))
    return qkv, k.to(request.param), v.to(request.param)


@pytest.fixture(params=["openmp", "thread_pool"], autouse=True)
def runner(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """On torch's threads, and on a thread pool, which is used where torch has no GNU OpenMP."""
    if request.param == "thread_pool":
        monkeypatch.setattr("pipeline.kernels.decode_attention.torch_openmp", lambda: None)
    elif not torch_openmp():
        pytest.skip("this torch doesn't use GNU OpenMP")
    assert isinstance(CPUAttention().run, OpenMPRunner if request.param == "openmp" else ThreadPoolRunner)


def test_equals_torch_over_filled_positions(inputs: Inputs) -> None:
    qkv, k, v = inputs
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


def test_writes_only_the_new_position(inputs: Inputs) -> None:
    qkv, k, v = inputs
    before = k.clone(), v.clone()
    CPUAttention()(qkv, k, v, LENGTHS)
    for after, old in zip((k, v), before, strict=True):
        changed = (after != old).any(-1).any(1)  # (S, T)
        assert changed.nonzero().tolist() == [[s, n - 1] for s, n in enumerate(LENGTHS) if n]


@pytest.mark.parametrize("threads", [2, 3, 5])
def test_row_does_not_depend_on_threads_or_neighbors(
    inputs: Inputs, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    qkv, k, v = inputs
    alone = CPUAttention()(qkv[1:2], k[1:2], v[1:2], LENGTHS[1:2])
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    assert torch.equal(CPUAttention()(qkv, k, v, LENGTHS)[1:2], alone)


@pytest.mark.parametrize("part", [0, 1, 2])
def test_nan_stays_in_its_row(inputs: Inputs, part: int) -> None:
    qkv, k, v = inputs
    qkv[1].view(3, H, D)[part, 0] = torch.nan
    out = CPUAttention()(qkv, k, v, LENGTHS).view(S, H, D)
    assert out[1, 0].isnan().any()
    assert not out[[0, 2, 3]].isnan().any() and not out[1, 1:].isnan().any()


def test_bfloat16_queries(inputs: Inputs) -> None:
    qkv, k, v = inputs
    exact = CPUAttention()(qkv.bfloat16().float(), k.clone(), v.clone(), LENGTHS)
    half = CPUAttention()(qkv.bfloat16(), k, v, LENGTHS)
    assert half.dtype == torch.bfloat16 and torch.equal(half, exact.bfloat16())


WRONG_INPUTS = {
    "not contiguous": lambda qkv, k, v, n: (qkv, k.transpose(1, 2).contiguous().transpose(1, 2), v, n),
    "other shape": lambda qkv, k, v, n: (qkv, k, v[:, :, :-1].contiguous(), n),
    "other width": lambda qkv, k, v, n: (qkv[:, :-1].contiguous(), k, v, n),
    "other dtype": lambda qkv, k, v, n: (qkv, k.half(), v.half(), n),
    "mixed dtypes": lambda qkv, k, v, n: (qkv, k, v.double(), n),
    "other device": lambda qkv, k, v, n: (qkv, k.to("meta"), v, n),
    "past the cache": lambda qkv, k, v, n: (qkv, k, v, n + 1),
    "negative": lambda qkv, k, v, n: (qkv, k, v, n - 1),
    "int32": lambda qkv, k, v, n: (qkv, k, v, n.astype(np.int32)),
    "too few": lambda qkv, k, v, n: (qkv, k, v, n[:-1]),
}


@pytest.mark.parametrize("change", WRONG_INPUTS.values(), ids=WRONG_INPUTS)
def test_wrong_inputs_are_refused_before_compiled_code_runs(inputs: Inputs, change: Callable[..., tuple]) -> None:
    attention = CPUAttention()
    attention.run = lambda arrays: pytest.fail("was called")
    with pytest.raises(ValueError, match="must be"):
        attention(*change(*inputs, LENGTHS))
