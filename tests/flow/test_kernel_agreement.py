"""A run's layout: measured by the first actor of a kind, then read, and never mixed up with a quantized pool's."""

from pathlib import Path

import pytest
import torch

from pipeline.bark.build import make_execution_config
from pipeline.errors import ConfigError
from pipeline.flow import kernel_agreement as kernel_agreement
from pipeline.kernels.autotune import INT8_KERNELS, KernelConfig
from pipeline.kernels.matmul_backends import matmul_available
from pipeline.storage.store import Store

ASKED = {"device": "cpu", "dtype": "float32", "slots": 4, "width": 768}
FIRST, OTHER = KernelConfig("onednn", "plain"), KernelConfig("plain", "plain")


def test_the_first_measurement_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(str(tmp_path))
    monkeypatch.setattr(kernel_agreement, "autotune_once", lambda *_: FIRST)
    assert make_execution_config(quantize=None, autotuner=kernel_agreement.agreed(store), **ASKED).kernels == FIRST  # type: ignore[arg-type]
    monkeypatch.setattr(kernel_agreement, "autotune_once", lambda *_: pytest.fail("measured again"))
    assert make_execution_config(quantize=None, autotuner=kernel_agreement.agreed(store), **ASKED).kernels == FIRST  # type: ignore[arg-type]


def test_of_two_at_once_both_take_the_one_that_was_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(str(tmp_path))

    def beaten(*asked: object) -> KernelConfig:
        monkeypatch.setattr(kernel_agreement, "autotune_once", lambda *_: FIRST)
        kernel_agreement.agreed(store)(4, 768, torch.float32, None)  # another actor, meanwhile
        return OTHER

    monkeypatch.setattr(kernel_agreement, "autotune_once", beaten)
    assert kernel_agreement.agreed(store)(4, 768, torch.float32, None) == FIRST


@pytest.mark.skipif(not matmul_available("int8"), reason="this torch has no fbgemm")
def test_a_quantized_pool_does_not_decide_for_the_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(str(tmp_path))
    monkeypatch.setattr(
        kernel_agreement, "autotune_once", lambda slots, width, dtype, quantize: INT8_KERNELS if quantize else FIRST
    )
    for quantize, expected in (("int8", INT8_KERNELS), (None, FIRST), ("int8", INT8_KERNELS)):
        kernels = make_execution_config(quantize=quantize, autotuner=kernel_agreement.agreed(store), **ASKED).kernels  # type: ignore[arg-type]
        assert kernels == expected


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "Expecting value"),
        (b"null", "must be a mapping"),
        (b'{"decode": ["plain"]}', "unhashable"),
        (b'{"other": "plain"}', "unexpected keyword argument 'other'"),
        (
            b'{"decode": "int8", "prefill": "int8", "attend": "bfloat16"}',
            "attend='bfloat16'.* is not known",
        ),  # of 26 November
    ],
)
def test_a_layout_that_cannot_be_used_is_refused_before_anything_starts(
    content: bytes, said: str, tmp_path: Path
) -> None:
    store = Store(str(tmp_path))
    store.put("_plan/kernels/cpu.json", content)
    with pytest.raises(ConfigError, match=rf"kernels/cpu\.json: damaged, or of another version: .*{said}.*; use a new"):
        kernel_agreement.check(store)
