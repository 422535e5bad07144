"""Run 100,000 rows with stages that compute nothing: `python -m benchmarks.rows 100000 1024`.

This measures everything else: reading the manifest, planning, splitting and tokenizing, four Ray actor pools, FLAC,
Parquet, commits. Prints rows per second and memory; the last line is JSON.
"""

import json
import sys
import tempfile
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline import spec
from pipeline.bark.registry import STAGES
from pipeline.bark.semantic import SemanticTokens
from pipeline.bark.stage import DoneCallback, Stats, Utterance
from pipeline.checkpoints.random import write_random_checkpoint
from pipeline.config import parse
from pipeline.flow.driver import run

FRAMES = 15  # 0.2 s of audio per row, so that FLAC has something to encode
OUTPUTS: dict[str, Any] = {
    "semantic": SemanticTokens(np.zeros(50, np.int64), "eos"),
    "coarse": np.zeros((2, FRAMES), np.int64),
    "fine": np.zeros((8, FRAMES), np.int64),
    "decode": np.zeros(FRAMES * spec.SAMPLES_PER_FRAME, np.float32),
}


class Stub:
    """A stage that returns the same output at once."""

    def __init__(self, output: Any):
        self.output = output
        self.waiting: list[DoneCallback] = []
        self.rows = 0

    def submit(self, utterance: Utterance, x: Any, done: DoneCallback) -> None:
        self.waiting.append(done)

    def step(self) -> bool:
        self.rows += len(self.waiting)
        for done in self.waiting:
            done(self.output)
        self.waiting.clear()
        return False

    @property
    def stats(self) -> Stats:
        return Stats(self.rows, self.rows, self.rows)


def replace_stages(outputs: dict[str, Any] = OUTPUTS) -> None:
    """From now on, the stages of all runs of this process return these outputs."""
    for name, output in outputs.items():
        STAGES[name] = replace(STAGES[name], build=lambda checkpoint, execution, output=output: Stub(output))


class Memory(threading.Thread):
    """Samples resident MiB of the driver, the largest actor and the object store until the process ends."""

    def __init__(self, every_s: float = 1.0) -> None:
        super().__init__(daemon=True)
        self.every_s = every_s
        self.samples: dict[str, list[int]] = {"driver": [], "largest actor": [], "object store": []}

    def run(self) -> None:
        driver, before = psutil.Process(), psutil.disk_usage("/dev/shm").used
        while True:
            shared = psutil.disk_usage("/dev/shm").used - before
            used = (driver.memory_info().rss, max(map(own_bytes, driver.children(recursive=True)), default=0), shared)
            for samples, each in zip(self.samples.values(), used, strict=True):
                samples.append(round(each / 2**20))
            time.sleep(self.every_s)

    def peaks(self) -> dict[str, int]:
        return {name: max(samples) for name, samples in self.samples.items()}


def own_bytes(process: psutil.Process) -> int:
    """Unshared resident bytes of a pool actor; 0 for other processes."""
    try:
        used = process.memory_info()
        return int(used.rss - used.shared) if process.name().startswith("ray::MapWorker") else 0
    except psutil.Error:  # the process has ended
        return 0


def main() -> None:
    rows = int(sys.argv[1]) if len(sys.argv) > 1 else 100_000
    rows_per_shard = int(sys.argv[2]) if len(sys.argv) > 2 else 1024  # of 0.2 s each: as much audio as 20 usual rows
    replace_stages()
    with tempfile.TemporaryDirectory(prefix="barkery-rows-") as folder:
        texts = [f"This is sentence number {i}, of a usual length for speech." for i in range(rows)]
        manifest = Path(folder) / "rows.parquet"
        pq.write_table(pa.table({"id": [str(i) for i in range(rows)], "text": texts}), manifest)
        values = {
            "model": str(write_random_checkpoint(Path(folder) / "model")),
            "manifest": str(manifest),
            "output": str(Path(folder) / "out"),
            "segments": {"max_tokens": 200},
            "rows_per_shard": rows_per_shard,
            "pools": {stage: {"num_cpus": 0.4, "actors": 2 if stage == "decode" else 1} for stage in OUTPUTS},
        }
        memory = Memory()
        memory.start()
        start = time.perf_counter()
        summary = run(parse(values, "benchmark"))
        seconds = time.perf_counter() - start
    driver, _, store = (
        {"half way": samples[len(samples) // 2], "peak": max(samples)} for samples in memory.samples.values()
    )
    print(f"{summary}; {rows / seconds:,.0f} rows/s; driver {driver} MiB; object store {store} MiB")
    print(
        json.dumps({"rows": rows, "rows_per_s": round(rows / seconds), "driver_mib": driver, "object_store_mib": store})
    )


if __name__ == "__main__":
    main()
