"""The choice of kernels follows the measurement, and small differences are ignored."""

from collections.abc import Callable

import pytest
import torch

from pipeline.kernels import autotune as autotuning
from pipeline.kernels.attention_backends import ATTENTION_BACKENDS
from pipeline.kernels.matmul_backends import MATMUL_BACKENDS, matmul_available


@pytest.mark.parametrize(("other_s", "taken"), [(1.05, "first"), (0.95, "first"), (0.8, "other")])
def test_keeps_first_backend_unless_another_is_clearly_faster(
    other_s: float, taken: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    times: dict[Callable[[], object], float] = {int: 1.0, str: other_s}
    monkeypatch.setattr(autotuning, "seconds", times.__getitem__)
    assert autotuning.pick_fastest({"first": int, "other": str}, 3) == taken


def test_keeps_own_kernels_unless_torchs_are_clearly_faster(monkeypatch: pytest.MonkeyPatch) -> None:
    times = {"onednn": 1.05, "tiled": 1.05, "plain": 1.0}
    matmuls = {name: (lambda weight, bias, name=name: lambda x: name) for name in ("onednn", "plain")}
    attentions = {name: (lambda q, k, v, causal, name=name: name) for name in ("tiled", "plain")}
    monkeypatch.setattr(autotuning, "MATMUL_BACKENDS", matmuls)
    monkeypatch.setattr(autotuning, "ATTENTION_BACKENDS", attentions)
    monkeypatch.setattr(autotuning, "matmul_available", lambda name: True)
    monkeypatch.setattr(autotuning, "attention_available", lambda name, dtype: True)
    monkeypatch.setattr(autotuning, "seconds", lambda call: times[call()])
    assert autotuning.autotune(8, 64, torch.float32, None) == autotuning.KernelConfig("onednn", "onednn", "tiled")
    times["onednn"] = times["tiled"] = 1.2
    assert autotuning.autotune(8, 64, torch.float32, None) == autotuning.PLAIN_KERNELS


def test_kernels_are_exact_without_quantize() -> None:
    kernels = autotuning.autotune(4, 256, torch.float32, None)
    assert {kernels.decode, kernels.prefill} <= {"onednn", "plain"} and kernels.attend in ATTENTION_BACKENDS


@pytest.mark.skipif(not matmul_available("int8"), reason="this torch has no fbgemm")
def test_int8_chooses_among_int8_backends() -> None:
    kernels = autotuning.autotune(4, 256, torch.float32, "int8")
    assert {kernels.decode, kernels.prefill} <= {"int8", "onednn_int8"} and kernels.attend in ATTENTION_BACKENDS
    assert {kernels.decode, kernels.prefill} <= MATMUL_BACKENDS.keys()
