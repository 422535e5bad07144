"""Segments between pools: what one pool sends is what the next one reads."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from pipeline.bark.registry import STAGES
from pipeline.bark.semantic import SemanticTokens, as_input
from pipeline.config import parse
from pipeline.flow.segments import row_sampling, row_seed
from pipeline.flow.stage_adapters import EdgeSink, EdgeSource, make_adapter, make_sink, make_source
from pipeline.sampling import Sampling
from tests.test_sampling import OTHER

OUTPUTS: dict[str, Any] = {
    "semantic": SemanticTokens(np.arange(7), "eos"),
    "coarse": np.arange(10).reshape(2, 5),
    "fine": np.arange(40).reshape(8, 5),
}


@pytest.mark.parametrize("sampling", [OTHER, Sampling()], ids=["changed", "default"])
def test_every_setting_and_output_survives_every_edge(sampling: Sampling, tmp_path: Path) -> None:
    """One row through all adapters and edges, with the stages' outputs made up."""
    config = parse({"model": "m", "manifest": "a", "output": "b"}, "test")
    row = {"id": "a", "seed": 2**62 + 1} | sampling.as_dict()
    encoder = SimpleNamespace(split=lambda *_: ["Hello."], encode=lambda text: np.arange(len(text)))
    context: Any = SimpleNamespace(config=config, encoder=encoder, checkpoint=SimpleNamespace(folder=tmp_path))
    assert row_sampling(row, config) == sampling and row_seed(row, config) == 2**62 + 1
    source, rows, expected = make_source(context, is_first=True), {3: row}, None
    for name, output in OUTPUTS.items():
        adapter = make_adapter(context, STAGES[name])
        ((segment,),) = source.split(rows)
        utterance, x = adapter.inputs(segment)
        assert (utterance.seed, utterance.sampling) == (2**62 + 1, sampling)
        if name == "semantic":
            assert x is None and utterance.text_ids is not None and utterance.text_ids.size == 6
        else:
            np.testing.assert_array_equal(x, expected)
        batch = make_sink(context, STAGES[name], is_last=False).finish(9, [adapter.attach(segment, output)])
        assert batch["shard"].to_pylist() == [9]
        source, expected = make_source(context, is_first=False), as_input(output)
        rows = source.read(batch)
        assert list(rows) == [3]
    utterance, x = make_adapter(context, STAGES["decode"]).inputs(rows[3][0])
    assert utterance.sampling == sampling
    np.testing.assert_array_equal(x, OUTPUTS["fine"])
    assert (rows[3][0]["num_semantic"], rows[3][0]["stop"]) == (7, "eos")


def test_samples_are_kept_as_int16() -> None:
    adapter = make_adapter(SimpleNamespace(), STAGES["decode"])  # type: ignore[arg-type]
    clip = adapter.compact(np.array([0.5, -2.0], np.float32))
    assert clip.samples.dtype == np.int16 and clip.samples.tolist() == [16384, -32767] and clip.peak == 2.0
    assert adapter.attach({"row": 0}, clip) == ({"row": 0}, clip)


def test_rows_of_a_shard_stay_together() -> None:
    segments = [{"row": 0, "seed": 1}, {"row": 0, "seed": 2}, {"row": 2, "seed": 3}]
    batch: pa.Table = EdgeSink().finish(4, [(segment, None) for segment in segments])
    rows = EdgeSource().read(batch)
    assert {row: [segment["seed"] for segment in each] for row, each in rows.items()} == {0: [1, 2], 2: [3]}
