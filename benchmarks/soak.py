"""Measure peak memory under load, with stages that compute nothing.

    python -m benchmarks.soak text 8          one row whose speech is 8 hours long
    python -m benchmarks.soak manifest 4      a manifest of 4 GB with texts of 100 kB: checked and planned only
    python -m benchmarks.soak voices 20000    rows, each with another voice

Prints the peak of the driver, of the largest actor and of the object store; the last line is JSON.
"""

import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.rows import OUTPUTS, Memory, replace_stages
from pipeline import spec
from pipeline.bark.voice import HistoryPrompt
from pipeline.checkpoints.random import write_random_checkpoint
from pipeline.config import parse
from pipeline.flow.driver import run
from pipeline.flow.planning import ModelInfo, plan_manifest
from pipeline.storage.store import Store

PASS_S = 10  # seconds of speech per Bark pass
SENTENCE = "This is a sentence of a usual length, as books have them by the thousand, and it goes on to here. "


def ten_seconds() -> dict[str, Any]:
    """The stages' outputs for one pass."""
    frames = PASS_S * spec.COARSE_RATE_HZ
    noise = np.random.default_rng(0).normal(0, 0.1, frames * spec.SAMPLES_PER_FRAME).astype(np.float32)
    codes = {"coarse": np.zeros((2, frames), np.int64), "fine": np.zeros((8, frames), np.int64)}
    return OUTPUTS | codes | {"decode": noise}


def long_text(hours: float, folder: Path) -> tuple[dict[str, Any], Any]:
    passes = round(hours * 3600 / PASS_S)
    return {"segments": {"max_tokens": 200, "pause_s": 0.0}}, pa.table({"id": ["book"], "text": [SENTENCE * passes]})


def many_voices(count: float, folder: Path) -> tuple[dict[str, Any], Any]:
    coarse, fine = np.zeros((2, 450), np.int64), np.zeros((8, 450), np.int64)
    HistoryPrompt(np.zeros(300, np.int64), coarse, fine).save(folder / "voice.npz")
    names = [str(folder / f"voice-{i}.npz") for i in range(int(count))]
    for name in names:
        Path(name).symlink_to(folder / "voice.npz")
    table = pa.table({"id": [str(i) for i in range(len(names))], "text": ["Hello."] * len(names), "voice": names})
    return {"rows_per_shard": 256}, table


def large_manifest(gigabytes: float, path: Path) -> None:
    """Write incompressible texts of 100 kB each."""
    random = np.random.default_rng(0)
    schema = pa.schema([("id", pa.string()), ("text", pa.string())])
    with pq.ParquetWriter(path, schema, compression="none") as writer:
        for part in range(round(gigabytes * 1e9 / 1e7)):
            texts = [random.integers(97, 123, 100_000, np.uint8).tobytes().decode() for _ in range(100)]
            writer.write_table(pa.table({"id": [f"{part}-{i}" for i in range(100)], "text": texts}, schema=schema))


def main() -> None:
    what, size = sys.argv[1], float(sys.argv[2])
    outputs = ten_seconds() if what == "text" else OUTPUTS
    replace_stages(outputs)
    with tempfile.TemporaryDirectory(prefix="barkery-soak-") as name:
        folder = Path(name)
        values: dict[str, Any] = {
            "model": str(write_random_checkpoint(folder / "model")),
            "output": str(folder / "out"),
        }
        values |= {"manifest": str(folder / "rows.parquet"), "segments": {"max_tokens": 200}}
        values["pools"] = {stage: {"num_cpus": 0.4} for stage in OUTPUTS}
        memory = Memory(every_s=0.2)
        if what == "manifest":
            large_manifest(size, folder / "rows.parquet")
            memory.start()
            start = time.perf_counter()
            config = parse(values, "soak")
            (plan,) = plan_manifest(config, Store(config.output), ModelInfo.check(config))
            print(f"{plan.num_rows:,} rows planned")
        else:
            more, table = (long_text if what == "text" else many_voices)(size, folder)
            pq.write_table(table, folder / "rows.parquet")
            memory.start()
            start = time.perf_counter()
            print(run(parse(values | more, "soak")))
        seconds = round(time.perf_counter() - start)
    print(json.dumps({"soak": what, "size": size, "seconds": seconds, "peak_mib": memory.peaks()}))


if __name__ == "__main__":
    main()
