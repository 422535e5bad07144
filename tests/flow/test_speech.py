"""The whole product by ear: a row's text is heard in its own clip, after batching, a resume and splitting."""

import io
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import soundfile

from pipeline.flow.driver import run
from pipeline.shards.reader import rows
from pipeline.storage.store import Store
from tests.flow.conftest import MakeConfig
from tests.flow.in_process import replace_ray
from tests.recognizer import errors, hear, words
from tests.test_puppy import HELD_OUT, MOST_WRONG

VOICES = ("rms", "high", None, "middle")
TEXTS = [*HELD_OUT[2:56:6], " ".join(HELD_OUT[4:10])]  # nine single sentences, and six in a row that must be split


@pytest.mark.usefixtures("cluster")
def test_every_row_says_its_own_text(make_config: MakeConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    voices = [VOICES[i % 4] for i in range(len(TEXTS))]
    table = pa.table({"id": [f"row {i}" for i in range(len(TEXTS))], "text": TEXTS, "voice": voices})
    pq.write_table(table, tmp_path / "texts.parquet")
    manifest = str(tmp_path / "texts.parquet")
    config = make_config(model="puppy", manifest=manifest, rows_per_shard=3, segments={}, sampling={})
    assert run(config).written == len(TEXTS)
    Path(config.output, "_commits/part-00001.json").unlink()
    Path(config.output, "data/part-00001.parquet").write_bytes(b"half of")  # as a crash may leave it
    replace_ray(monkeypatch)
    assert run(config).written == len(TEXTS)
    made = list(rows(Store(config.output)))
    assert [row["id"] for row in made] == [f"row {i}" for i in range(len(TEXTS))]
    assert made[-1]["num_segments"] > 1
    heard = [hear(clip(row["audio"]["bytes"]), 24_000) for row in made]
    wrong = [errors(words(text), each) for text, each in zip(TEXTS, heard, strict=True)]
    assert sum(wrong) < MOST_WRONG * sum(len(words(text)) for text in TEXTS)
    nearest = [int(np.argmin([errors(words(text), each) / len(words(text)) for text in TEXTS])) for each in heard]
    assert sum(i == j for i, j in enumerate(nearest)) >= len(TEXTS) - 1, nearest


def clip(content: bytes) -> np.ndarray:
    return soundfile.read(io.BytesIO(content), dtype="float32")[0]
