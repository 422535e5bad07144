"""int8, bfloat16 and float16 cause small errors of the logits, and mostly the same token stays the likeliest."""

from pathlib import Path

import numpy as np
import pytest
import torch

from pipeline import Bark, Sampling
from pipeline.bark.build import ExecutionConfig, make_execution_config
from pipeline.bench.agreement import agreement
from pipeline.checkpoints.checkpoint import Checkpoint
from pipeline.errors import ConfigError
from pipeline.kernels.autotune import INT8_KERNELS, PLAIN_KERNELS, KernelConfig
from pipeline.kernels.matmul_backends import matmul_available

CPU = torch.device("cpu")
INT8_VNNI = KernelConfig("int8", "onednn_int8", "tiled")
INT8_HERE = pytest.mark.skipif(not matmul_available("int8"), reason="this torch has no fbgemm")

VNNI_HERE = pytest.mark.skipif(
    not matmul_available("onednn_int8"), reason="this processor adds 8-bit products in 16 bits"
)


@pytest.mark.parametrize(
    ("dtype", "kernels"),
    [
        pytest.param(torch.float32, INT8_KERNELS, marks=INT8_HERE),
        pytest.param(torch.float32, INT8_VNNI, marks=VNNI_HERE),
        (torch.bfloat16, PLAIN_KERNELS),
        (torch.float16, PLAIN_KERNELS),
    ],
    ids=["int8", "onednn_int8", "bfloat16", "float16"],
)
def test_logits_are_near_float32(tiny: Path, dtype: torch.dtype, kernels: object) -> None:
    found = agreement(Checkpoint(tiny), ExecutionConfig(CPU, dtype, 4, kernels))  # type: ignore[arg-type]
    assert 0 < found.logit_error < 0.1  # 0 would mean that the settings had no effect
    assert found.same_argmax > 0.7


def test_float32_agrees_with_itself(tiny: Path) -> None:
    found = agreement(Checkpoint(tiny), ExecutionConfig(CPU, torch.float32, 4, PLAIN_KERNELS))
    assert (found.logit_error, found.same_argmax) == (0, 1)


@INT8_HERE
def test_int8_generates_audio_of_the_same_length(tiny: Path, bark: Bark) -> None:
    """All four stages. On a tiny random model the tokens soon differ, but not their number."""
    forced = Sampling(allow_early_stop=False, max_semantic_tokens=40)
    exact = bark.generate(["Some words."], seeds=[1], sampling=forced)[0]
    quantized = Bark.load(tiny, device="cpu", slots=4, quantize="int8").generate(
        ["Some words."], seeds=[1], sampling=forced
    )[0]
    assert quantized.audio.size == exact.audio.size
    assert np.mean(quantized.semantic == exact.semantic) > 0.1


@pytest.mark.parametrize(
    ("how", "said"),
    [({"quantize": "int4"}, "int4"), ({"quantize": "int8", "dtype": "bfloat16"}, "dtype float32")],
)
def test_impossible_settings_are_refused(how: dict, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        make_execution_config(**{"device": "cpu", "dtype": "float32", "slots": 4, "quantize": None, "width": 768} | how)
