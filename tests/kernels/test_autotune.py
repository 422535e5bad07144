"""What is measured is taken, and small differences decide nothing."""

from collections.abc import Callable

import pytest
import torch

from pipeline.kernels import autotune as fastest
from pipeline.kernels.attention_backends import ATTEND
from pipeline.kernels.matmul_backends import PRODUCTS, available


@pytest.mark.parametrize(("other_s", "taken"), [(1.05, "first"), (0.95, "first"), (0.8, "other")])
def test_the_first_way_is_kept_unless_another_is_clearly_faster(
    other_s: float, taken: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    took: dict[Callable[[], object], float] = {int: 1.0, str: other_s}
    monkeypatch.setattr(fastest, "seconds", took.__getitem__)
    assert fastest.fastest({"first": int, "other": str}, 3) == taken


def test_ours_is_kept_unless_torchs_is_clearly_faster(monkeypatch: pytest.MonkeyPatch) -> None:
    took = {"onednn": 1.05, "tiled": 1.05, "plain": 1.0}
    products = {name: (lambda weight, bias, name=name: lambda x: name) for name in ("onednn", "plain")}
    ways = {name: (lambda q, k, v, causal, name=name: name) for name in ("tiled", "plain")}
    monkeypatch.setattr(fastest, "PRODUCTS", products)
    monkeypatch.setattr(fastest, "ATTEND", ways)
    monkeypatch.setattr(fastest, "available", lambda name: True)
    monkeypatch.setattr(fastest, "can_attend", lambda name, dtype: True)
    monkeypatch.setattr(fastest, "seconds", lambda call: took[call()])
    assert fastest.measure_layout(8, 64, torch.float32, None) == fastest.Layout("onednn", "onednn", "tiled")
    took["onednn"] = took["tiled"] = 1.2
    assert fastest.measure_layout(8, 64, torch.float32, None) == fastest.PLAIN


def test_exact_unless_asked_otherwise() -> None:
    layout = fastest.measure_layout(4, 256, torch.float32, None)
    assert {layout.few, layout.many} <= {"onednn", "plain"} and layout.attend in ATTEND


@pytest.mark.skipif(not available("int8"), reason="this torch has no fbgemm")
def test_int8_is_one_of_its_ways() -> None:
    layout = fastest.measure_layout(4, 256, torch.float32, "int8")
    assert {layout.few, layout.many} <= {"int8", "onednn_int8"} and layout.attend in ATTEND
    assert {layout.few, layout.many} <= PRODUCTS.keys()
