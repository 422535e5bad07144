"""The generator is the published one, and a race against its numbers samples from the probabilities."""

import pytest
import torch

from pipeline.engine.random import exponential, make_key
from pipeline.kernels.threefry import as_int32, threefry, words
from pipeline.kernels.threefry_cpu import words_on_cpu

# Known answers of Threefry-2x32, 20 rounds, from the Random123 distribution: counter, key, output
KNOWN = [
    ((0, 0), (0, 0), (0x6B200159, 0x99BA4EFE)),
    ((0xFFFFFFFF, 0xFFFFFFFF), (0xFFFFFFFF, 0xFFFFFFFF), (0x1CB996FC, 0xBB002BE7)),
    ((0x243F6A88, 0x85A308D3), (0x13198A2E, 0x03707344), (0xC4923A9C, 0x483DF7A0)),
]


@pytest.mark.parametrize(("counter", "key", "output"), KNOWN)
def test_threefry_gives_the_published_answers(counter: tuple, key: tuple, output: tuple) -> None:
    words = [torch.tensor([as_int32(word)], dtype=torch.int32) for word in counter]
    x0, x1 = threefry(torch.tensor([[as_int32(k) for k in key]], dtype=torch.int32), *words)
    assert (x0.item() & 0xFFFFFFFF, x1.item() & 0xFFFFFFFF) == output


def test_compiled_words_are_the_same() -> None:
    keys, steps = [make_key(i) for i in range(9)], [0, 1, 2**31 - 1, 2**31, 2**32 - 1, 2**32 + 5, 7, 7, 7]
    for count in (1, 5001):
        pairs = zip(words(keys, steps, count, "cpu"), words_on_cpu(keys, steps, count), strict=True)
        assert all(torch.equal(a, b) for a, b in pairs)


def test_row_depends_only_on_its_key_and_step() -> None:
    keys = [make_key(i, "stage") for i in range(5)]
    together = exponential(keys, [7, 8, 9, 7, 7], 1001)
    for i, step in enumerate([7, 8, 9, 7, 7]):
        assert torch.equal(exponential([keys[i]], [step], 1001)[0], together[i])
    for width in (1000, 37):  # a narrower range has the same numbers
        assert torch.equal(exponential(keys[:1], [7], width)[0], together[0, :width])
    assert not torch.equal(together[0], together[3])
    assert not torch.equal(exponential(keys[:1], [8], 1001)[0], together[0])


def test_numbers_are_exponential() -> None:
    noise = exponential([make_key("a")] * 200, list(range(200)), 1024).double()
    assert (noise > 0).all() and torch.isfinite(noise).all()
    assert noise.mean().item() == pytest.approx(1, abs=0.01)
    assert noise.var().item() == pytest.approx(1, abs=0.03)
    assert (noise > 3).double().mean().item() == pytest.approx(0.0498, abs=0.002)
    lagged = torch.corrcoef(torch.stack([noise[:-1].flatten(), noise[1:].flatten()]))[0, 1]
    assert abs(lagged.item()) < 0.01


def test_race_samples_from_the_probabilities() -> None:
    probs = torch.tensor([0.5, 0.3, 0.15, 0.05])
    count = 40_000
    drawn = (probs / exponential([make_key("b")] * count, list(range(count)), 4)).argmax(-1)
    seen = torch.bincount(drawn, minlength=4).double()
    chi_square = ((seen - count * probs) ** 2 / (count * probs)).sum().item()
    assert chi_square < 16.3  # 3 degrees of freedom, p = 0.001; fixed keys, so it can't fail by luck
