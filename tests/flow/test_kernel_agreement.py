"""The kernels of a run: the first actor of a kind measures, the others read its choice, and quantized pools have their
own."""

import json
from pathlib import Path

import pytest
import torch

from pipeline.bark.build import make_execution_config
from pipeline.errors import ConfigError
from pipeline.flow import kernel_agreement as kernel_agreement
from pipeline.kernels import attention_backends
from pipeline.kernels.autotune import INT8_KERNELS, KernelConfig
from pipeline.kernels.matmul_backends import matmul_available
from pipeline.storage.store import Store

ASKED = {"device": "cpu", "dtype": "float32", "slots": 4, "width": 768}
FIRST, OTHER = KernelConfig("onednn", "plain"), KernelConfig("plain", "plain")


def test_later_actors_read_the_first_choice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(str(tmp_path))
    monkeypatch.setattr(kernel_agreement, "autotune_once", lambda *_: FIRST)
    assert make_execution_config(quantize=None, autotuner=kernel_agreement.agreed(store), **ASKED).kernels == FIRST  # type: ignore[arg-type]
    monkeypatch.setattr(kernel_agreement, "autotune_once", lambda *_: pytest.fail("measured again"))
    assert make_execution_config(quantize=None, autotuner=kernel_agreement.agreed(store), **ASKED).kernels == FIRST  # type: ignore[arg-type]


def test_two_at_once_both_use_the_stored_choice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(str(tmp_path))

    def slower(*asked: object) -> KernelConfig:
        monkeypatch.setattr(kernel_agreement, "autotune_once", lambda *_: FIRST)
        kernel_agreement.agreed(store)(4, 768, torch.float32, None)  # another actor, meanwhile
        return OTHER

    monkeypatch.setattr(kernel_agreement, "autotune_once", slower)
    assert kernel_agreement.agreed(store)(4, 768, torch.float32, None) == FIRST


@pytest.mark.skipif(not matmul_available("int8"), reason="this torch has no fbgemm")
def test_quantized_pool_does_not_decide_for_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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
        (b"null", "must be a JSON object"),
        (b'{"few": ["plain"]}', "unhashable"),
        (b'{"other": "plain"}', "unexpected keyword argument 'other'"),
        (
            b'{"few": "int8", "many": "int8", "attend": "bfloat16"}',
            "attend='bfloat16'.* is not known",
        ),  # of 26 November
    ],
)
def test_damaged_choice_is_refused_before_anything_starts(content: bytes, said: str, tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    store.put("_plan/layouts/cpu.json", content)
    with pytest.raises(ConfigError, match=rf"layouts/cpu\.json: damaged, or of another version: .*{said}.*; use a new"):
        kernel_agreement.check(store)


def test_choice_of_release_0_1_0_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(str(tmp_path))
    monkeypatch.setattr(kernel_agreement, "autotune_once", lambda *_: pytest.fail("measured again"))
    old_name = kernel_agreement.kind(kernel_agreement.processor_names()[1], 4, 768, "torch.float32")
    store.put(f"_plan/layouts/{old_name}.json", b'{"few": "onednn", "many": "plain", "attend": "plain"}')
    assert kernel_agreement.agreed(store)(4, 768, torch.float32, None) == FIRST


def test_choice_is_stored_in_the_format_of_release_0_1_0(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(str(tmp_path))
    monkeypatch.setattr(kernel_agreement, "autotune_once", lambda *_: FIRST)
    kernel_agreement.agreed(store)(4, 768, torch.float32, None)
    (name,) = store.names("_plan/layouts")
    assert json.loads(store.get(f"_plan/layouts/{name}")) == {"few": "onednn", "many": "plain", "attend": "plain"}


def test_processors_of_one_vendor_name_decide_for_themselves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(str(tmp_path))
    for processor, kernels in (("AMD EPYC (family 25)", FIRST), ("AMD EPYC (family 26)", OTHER)):
        monkeypatch.setattr(kernel_agreement, "processor_name", lambda processor=processor: processor)
        monkeypatch.setattr(kernel_agreement, "autotune_once", lambda *_, kernels=kernels: kernels)
        assert kernel_agreement.agreed(store)(4, 768, torch.float32, None) == kernels
    assert len(store.names("_plan/layouts")) == 2


def test_unknown_kernels_variable_is_refused_before_anything_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BARKERY_KERNELS", "fast")
    with pytest.raises(ConfigError, match="BARKERY_KERNELS is 'fast': must be 'reference' or not set"):
        kernel_agreement.check(Store(str(tmp_path)))


TILED = KernelConfig("plain", "plain", "tiled")


def test_an_actor_that_cannot_run_the_stored_kernels_refuses_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store(str(tmp_path))
    monkeypatch.setattr(kernel_agreement, "autotune_once", lambda *_: TILED)
    autotuner = kernel_agreement.agreed(store)
    assert autotuner(4, 768, torch.float32, None) == TILED
    monkeypatch.setattr(attention_backends, "torch_openmp", lambda: None)
    with pytest.raises(ConfigError, match=r"_plan/layouts/.*\.json: .* can't run on .*: attend: tiled; give all nodes"):
        autotuner(4, 768, torch.float32, None)
    kernel_agreement.check(store)  # the driver's machine needs no kernels


def test_a_run_is_either_on_the_reference_path_or_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BARKERY_KERNELS", "reference")
    autotuner = kernel_agreement.agreed(Store(str(tmp_path / "new")))
    assert [autotuner(4, 768, torch.float32, None) for _ in range(2)] == [KernelConfig()] * 2
    monkeypatch.delenv("BARKERY_KERNELS")
    with pytest.raises(ConfigError, match=r"can't run on .*: BARKERY_KERNELS: reference; give all nodes"):
        autotuner(4, 768, torch.float32, None)
    autotuner = kernel_agreement.agreed(Store(str(tmp_path / "old")))
    monkeypatch.setattr(kernel_agreement, "autotune_once", lambda *_: FIRST)
    assert autotuner(4, 768, torch.float32, None) == FIRST
    monkeypatch.setenv("BARKERY_KERNELS", "reference")
    with pytest.raises(
        ConfigError, match=r"BARKERY_KERNELS=reference.*: decode: onednn, BARKERY_KERNELS: not set; give all nodes"
    ):
        autotuner(4, 768, torch.float32, None)
