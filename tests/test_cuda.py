"""On a GPU: graph steps equal eager ones, batched rows equal rows alone, bfloat16 is near float32, a slot costs its cache."""

from pathlib import Path

import numpy as np
import pytest
import torch

from pipeline import Bark, Sampling
from pipeline.bark.semantic import SemanticStage
from pipeline.checkpoints.checkpoint import Checkpoint
from pipeline.engine.step import GraphStep

pytestmark = [
    pytest.mark.requires_cuda,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here"),
]
TEXTS = [f"Sentence number {i} of several." for i in range(7)]
FORCED = [Sampling(allow_early_stop=False, max_semantic_tokens=20 + 9 * i) for i in range(7)]


@pytest.fixture(scope="module")
def on_gpu(tiny: Path) -> Bark:
    return Bark.load(tiny, device="cuda", dtype="float32", slots=4)


def test_replayed_step_equals_eager_step(on_gpu: Bark) -> None:
    stage = on_gpu.stages["semantic"]
    assert isinstance(stage, SemanticStage)
    engine = stage.engine
    assert isinstance(engine.decode, GraphStep)
    tokens, positions = [3, 0, 5, 9], [257, 0, 300, 258]
    with torch.inference_mode():
        for keys, values in zip(engine.cache.k, engine.cache.v, strict=True):
            keys.normal_()
            values.normal_()
        inputs = torch.tensor([tokens, positions], device="cuda")
        eager = engine.model.decode(inputs[0], inputs[1], engine.cache).clone()
        replayed = engine.decode(tokens, positions)
    assert torch.equal(eager, replayed)


def test_batched_row_equals_the_row_alone(on_gpu: Bark) -> None:
    together = on_gpu.generate(TEXTS, seeds=range(7), sampling=FORCED)
    for i, result in enumerate(together):
        (alone,) = on_gpu.generate(TEXTS[i : i + 1], seeds=[i], sampling=FORCED[i : i + 1])
        for name in ("semantic", "coarse", "fine", "audio"):
            assert np.array_equal(getattr(result, name), getattr(alone, name)), (i, name)


def test_float32_gives_the_tokens_of_a_cpu(on_gpu: Bark, bark: Bark) -> None:
    greedy = Sampling.greedy(allow_early_stop=False, max_semantic_tokens=40)
    here, there = bark.generate(TEXTS, sampling=greedy), on_gpu.generate(TEXTS, sampling=greedy)
    equal = [np.mean(a.semantic == b.semantic) for a, b in zip(here, there, strict=True)]
    assert np.mean(equal) > 0.9  # a near tie may be decided differently, and all tokens after it differ


def test_bfloat16_logits_are_near_float32(tiny: Path) -> None:
    ids = torch.arange(513)
    logits = {}
    for dtype in ("float32", "bfloat16"):
        stage = Bark.load(tiny, device="cuda", dtype=dtype, slots=4).stages["semantic"]
        assert isinstance(stage, SemanticStage)
        with torch.inference_mode():
            logits[dtype] = stage.engine.model.prefill(ids.cuda(), stage.engine.cache, 0)
        assert logits[dtype].dtype == torch.float32
    error = (logits["bfloat16"] - logits["float32"]).std() / logits["float32"].std()
    assert error < 0.05


def test_slot_costs_its_cache(tiny: Path) -> None:
    """Twice the slots take more memory by at most 1.1 times their caches."""
    allocated = []
    for slots in (32, 64):
        torch.cuda.empty_cache()
        before = torch.cuda.memory_allocated()
        stage = SemanticStage(Checkpoint(tiny).semantic().cuda(), Checkpoint(tiny).vocabulary, slots)
        allocated.append(torch.cuda.memory_allocated() - before)
        each = stage.engine.cache.bytes_per_slot
        del stage
    assert allocated[1] - allocated[0] < 1.1 * 32 * each
