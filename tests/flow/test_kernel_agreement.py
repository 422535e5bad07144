"""A run's layout: measured by the first actor of a kind, then read, and never mixed up with a quantized pool's."""

from pathlib import Path

import pytest
import torch

from pipeline.bark.build import place
from pipeline.errors import ConfigError
from pipeline.flow import kernel_agreement as layouts
from pipeline.kernels.autotune import INT8, Layout
from pipeline.kernels.matmul_backends import available
from pipeline.storage.store import Store

ASKED = {"device": "cpu", "dtype": "float32", "slots": 4, "width": 768}
FIRST, OTHER = Layout("onednn", "plain"), Layout("plain", "plain")


def test_the_first_measurement_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(str(tmp_path))
    monkeypatch.setattr(layouts, "measured", lambda *_: FIRST)
    assert place(quantize=None, measure=layouts.agreed(store), **ASKED).layout == FIRST  # type: ignore[arg-type]
    monkeypatch.setattr(layouts, "measured", lambda *_: pytest.fail("measured again"))
    assert place(quantize=None, measure=layouts.agreed(store), **ASKED).layout == FIRST  # type: ignore[arg-type]


def test_of_two_at_once_both_take_the_one_that_was_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(str(tmp_path))

    def beaten(*asked: object) -> Layout:
        monkeypatch.setattr(layouts, "measured", lambda *_: FIRST)
        layouts.agreed(store)(4, 768, torch.float32, None)  # another actor, meanwhile
        return OTHER

    monkeypatch.setattr(layouts, "measured", beaten)
    assert layouts.agreed(store)(4, 768, torch.float32, None) == FIRST


@pytest.mark.skipif(not available("int8"), reason="this torch has no fbgemm")
def test_a_quantized_pool_does_not_decide_for_the_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(str(tmp_path))
    monkeypatch.setattr(layouts, "measured", lambda slots, width, dtype, quantize: INT8 if quantize else FIRST)
    for quantize, expected in (("int8", INT8), (None, FIRST), ("int8", INT8)):
        layout = place(quantize=quantize, measure=layouts.agreed(store), **ASKED).layout  # type: ignore[arg-type]
        assert layout == expected


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "Expecting value"),
        (b"null", "must be a mapping"),
        (b'{"few": ["plain"]}', "unhashable"),
        (b'{"other": "plain"}', "unexpected keyword argument 'other'"),
        (
            b'{"few": "int8", "many": "int8", "attend": "bfloat16"}',
            "attend='bfloat16'.* is not known",
        ),  # of 26 November
    ],
)
def test_a_layout_that_cannot_be_used_is_refused_before_anything_starts(
    content: bytes, said: str, tmp_path: Path
) -> None:
    store = Store(str(tmp_path))
    store.put("_plan/layouts/cpu.json", content)
    with pytest.raises(ConfigError, match=rf"layouts/cpu\.json: damaged, or of another version: .*{said}.*; use a new"):
        layouts.check(store)
