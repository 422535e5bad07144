"""An output with rows of every kind, made without a model, and what its clips sound like."""

import datetime
import io
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import soundfile

from pipeline.errors import RowError
from pipeline.shards.audio import to_int16
from pipeline.shards.plan import Plan, read_shard, write_plan
from pipeline.shards.reader import rows
from pipeline.shards.writer import FailedRow, WrittenRow, write_shard
from pipeline.storage.store import Store

MODEL = {"model": "m", "model_revision": "r", "generator": "g"}
SAMPLING = {"semantic_temperature": 0.7, "coarse_temperature": 0.7, "fine_temperature": 0.5}
NUM_ROWS, ROWS_PER_SHARD = 40, 8
FAILED = "row 13"
IDS = {
    0: "plain",
    1: "book.v1.0001",
    2: "../escape",
    3: "with space",
    4: "a|b,c",
    5: "ünïcode",
    6: "-dash",
    7: "x" * 200,
}
TEXTS = {
    0: "A pipe | and a comma, here.",
    1: 'He said "yes"\nand left.',
    2: "=1+1",
    3: "tab\tand\r\nline",
    4: "Grüße aus Köln 🍞",
}
COLUMNS = {
    **dict.fromkeys(("id", "text", "voice", "language", "topic"), pa.string()),
    "score": pa.float64(),
    "tags": pa.list_(pa.string()),
    "origin": pa.struct([("book", pa.string()), ("page", pa.int64())]),
    "day": pa.date32(),
}
SCHEMA = pa.schema(list(COLUMNS.items()))


def samples_of(number: int) -> np.ndarray:
    """(N,) float32 of a different pitch and length for each row: a whole number of codec frames."""
    return (0.4 * np.sin(np.arange(320 * (30 + number)) * (0.02 + number / 500))).astype(np.float32)


def planned_rows() -> list[dict[str, Any]]:
    return [
        {
            "id": IDS.get(i, f"row {i}"),
            "text": TEXTS.get(i, f"Sentence number {i}."),
            "voice": None if i % 4 == 0 else f"v2/en_speaker_{i % 4}",
            "language": None if i < 8 else "en",
            "topic": f"topic {i % 3}",
            "score": float("nan") if i == 9 else i / 10,
            "tags": ["a", "b"] if i % 2 else [],
            "origin": {"book": "b", "page": i} if i > 8 else None,
            "day": datetime.date(2026, 11, 1 + i % 28),
        }
        for i in range(NUM_ROWS)
    ]


def make_output(folder: Path, committed: int = NUM_ROWS // ROWS_PER_SHARD) -> Path:
    """An output of 40 rows in shards of 8, of which the first `committed` are written; one row has failed."""
    store = Store(str(folder))
    identity = {"model": "m", "model_revision": "r", "seed": 1, "audio": {"format": "flac"}}
    plan = Plan(identity, NUM_ROWS, ROWS_PER_SHARD)
    plan = write_plan(store, plan, iter([pa.Table.from_pylist(planned_rows(), schema=SCHEMA)]), {})
    for shard in range(committed):
        outcomes: list[WrittenRow | FailedRow] = []
        for i in range(shard * ROWS_PER_SHARD, (shard + 1) * ROWS_PER_SHARD):
            if IDS.get(i, f"row {i}") == FAILED:
                outcomes.append(FailedRow(i, "text", RowError("empty_text", "no words")))
                continue
            samples = samples_of(i)
            counts = {"num_segments": 1, "num_semantic_tokens": 9, "num_frames": samples.size // 320}
            outcomes.append(WrittenRow(to_int16(samples), 0.4, i, SAMPLING, stop="eos", **counts))
        write_shard(store, shard, read_shard(store, plan, shard), outcomes, "flac", MODEL)
    return folder


@pytest.fixture(scope="session")
def finished_output(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A complete output; do not change it."""
    return make_output(tmp_path_factory.mktemp("output") / "out")


@pytest.fixture(scope="session")
def sounds(finished_output: Path) -> dict[str, np.ndarray]:
    """The int16 samples in the output's parts, by id."""
    found = rows(Store(str(finished_output)), ["id", "audio"])
    return {row["id"]: decode(row["audio"]["bytes"])[0] for row in found}


def decode(content: bytes) -> tuple[np.ndarray, int]:
    samples, rate = soundfile.read(io.BytesIO(content), dtype="int16")
    return samples, rate
