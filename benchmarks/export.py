"""Exports of many clips: time, rate beside the machine's rate of copying, and the largest memory of a process.

    python -m benchmarks.export SOURCE ROWS [FORMAT ...]

makes an output of ROWS rows, whose sounds are those of SOURCE again and again under new ids, in a temporary folder, and
runs `barkery export` on it for each format. The last line of stdout is JSON.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import asdict
from itertools import cycle, islice
from pathlib import Path

import psutil
import pyarrow as pa

import pipeline
from pipeline.export.formats import FORMATS
from pipeline.schema import output_schema
from pipeline.shards.plan import Plan, part_name, write_plan
from pipeline.shards.writer import Commit, to_parquet, written_file
from pipeline.storage.store import Store

ROWS_PER_SHARD = 64


def make_output(source: str, target: Path, rows: int) -> None:
    """An output of `rows` rows with the clips of `source`, repeated."""
    clips = [clip.row | {"audio": {"bytes": clip.audio, "path": None}} for clip in pipeline.read(source).clips()]
    store = Store(str(target))
    columns = {name: pa.string() for name in ("id", "text", "voice", "language")}
    planned = (row | {"id": f"row-{i:07d}"} for i, row in enumerate(islice(cycle(clips), rows)))
    first = pa.Table.from_pylist(
        [{"id": f"row-{i:07d}", "text": "words"} for i in range(rows)], pa.schema(list(columns.items()))
    )
    identity = {"model": "puppy", "model_revision": "r", "audio": {"format": "flac"}}
    write_plan(store, Plan(identity, rows, ROWS_PER_SHARD), iter([first]), {})
    schema = output_schema(pa.schema([]))
    shard = 0
    while part := list(islice(planned, ROWS_PER_SHARD)):
        content = to_parquet([{name: row.get(name) for name in schema.names} for row in part], schema)
        assert content
        store.put_many([(f"data/{part_name(shard)}.parquet", content)])
        commit = Commit(shard, len(part), 0, sum(row["num_samples"] for row in part), written_file(content), None)
        store.put(f"_commits/{part_name(shard)}.json", json.dumps(asdict(commit)).encode())
        shard += 1


class Watch(threading.Thread):
    """The largest memory that a process of a tree had, and that of its root."""

    def __init__(self, pid: int):
        super().__init__(daemon=True)
        self.root = psutil.Process(pid)
        self.root_peak = self.largest = 0
        self.name = ""

    def run(self) -> None:
        while self.root.is_running():
            try:
                for each in [self.root, *self.root.children(recursive=True)]:
                    used = each.memory_full_info().uss
                    if each is self.root:
                        self.root_peak = max(self.root_peak, used)
                    elif used > self.largest and "ray::" in " ".join(each.cmdline()):
                        self.largest = used
            except psutil.Error:
                pass
            time.sleep(0.3)


def size_of(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def main(source: str, rows: int, formats: list[str]) -> None:
    results = []
    with tempfile.TemporaryDirectory() as temporary:
        work = Path(temporary)
        make_output(source, work / "out", rows)
        start = time.monotonic()
        shutil.copytree(work / "out/data", work / "copy")
        os.sync()
        copy_s = time.monotonic() - start
        size = size_of(work / "copy")
        shutil.rmtree(work / "copy")
        print(
            f"copy: {rows:,} clips, {size / 1e6:,.0f} MB, {copy_s:.1f} s, {size / 1e6 / copy_s:,.0f} MB/s", flush=True
        )
        for name in formats:
            command = [sys.executable, "-m", "pipeline.cli", "export", str(work / "out"), name, str(work / name)]
            start = time.monotonic()
            process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
            watch = Watch(process.pid)
            watch.start()
            _, err = process.communicate()
            seconds = time.monotonic() - start
            assert process.returncode == 0, err
            found = {"format": name, "seconds": round(seconds, 1), "clips_per_s": round(rows / seconds)}
            found |= {"mb": round(size_of(work / name) / 1e6), "mb_per_s": round(size_of(work / name) / 1e6 / seconds)}
            found |= {"driver_mib": watch.root_peak >> 20, "worker_mib": watch.largest >> 20}
            results.append(found)
            print(found, flush=True)
            shutil.rmtree(work / name)
    print(json.dumps({"rows": rows, "copy_mb_per_s": round(size / 1e6 / copy_s), "exports": results}))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), sys.argv[3:] or list(FORMATS))
