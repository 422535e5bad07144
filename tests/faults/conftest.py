"""A job of some length, its output without faults, and the checks that must pass after every fault."""

import os

# gcsfs reads this when it is imported; without it, it tries gRPC for a minute
os.environ["GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT"] = "false"

import io
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from pipeline.bark.registry import STAGES
from pipeline.shards.reader import committed_shards, rows
from pipeline.shards.verify import verify
from pipeline.storage.store import Store
from tests.ray_head import PROJECT, Head, ray_head

NUM_ROWS, FAILING = 64, 5  # every fifth row has no text


@pytest.fixture(scope="package")
def head() -> Iterator[Head]:
    with ray_head(num_cpus=4) as made:
        yield made


@dataclass(frozen=True)
class Job:
    """One config that can be run into any output."""

    config: Path

    def command(self, output: str, *words: str) -> list[str]:
        return [sys.executable, "-m", "pipeline.cli", "generate", str(self.config), "--output", output, *words]

    def start(self, output: str, head: Head, *words: str) -> subprocess.Popen[str]:
        command = self.command(output, "--address", head.address, *words)
        pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        return subprocess.Popen(command, env=head.env, cwd=PROJECT, **pipes)

    def run(self, output: str, head: Head, *words: str) -> subprocess.CompletedProcess[str]:
        """Run to the end; the exit code should be 3, since some rows fail."""
        process = self.start(output, head, *words)
        out, err = process.communicate(timeout=400)
        return subprocess.CompletedProcess(process.args, process.returncode, out, err)


@pytest.fixture(scope="package")
def job(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Job:
    folder = tmp_path_factory.mktemp("job")
    texts = [
        None if i % FAILING == 0 else f"This is sentence number {i} of a long night. " * 3 for i in range(NUM_ROWS)
    ]
    pq.write_table(pa.table({"id": [f"row {i}" for i in range(NUM_ROWS)], "text": texts}), folder / "rows.parquet")
    pool = {"num_cpus": 0.5, "threads": 1, "slots": 4, "shards_in_flight": 3}
    config = {
        "model": str(tiny),
        "manifest": str(folder / "rows.parquet"),
        "output": str(folder / "unused"),
        "rows_per_shard": 4,
        "sampling": {"max_semantic_tokens": 80},
        "pools": dict.fromkeys(STAGES, pool),
    }
    (folder / "run.yaml").write_text(yaml.safe_dump(config))
    return Job(folder / "run.yaml")


@pytest.fixture(scope="package")
def reference(job: Job, head: Head, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """Every object of a run without faults."""
    output = str(tmp_path_factory.mktemp("reference") / "out")
    done = job.run(output, head)
    assert done.returncode == 3, done.stderr
    return objects(Store(output))


def objects(store: Store) -> dict[str, bytes]:
    """All objects except the plan's, by name."""
    found = {f"{folder}/{name}" for folder in ("data", "failures", "_commits") for name in store.names(folder)}
    return {name: store.get(name) for name in sorted(found)}


def assert_undamaged(store: Store, reference: dict[str, bytes]) -> None:
    """Check that in = written + failed, that no id is there twice, and that all bytes equal those of the run without faults."""
    seen = Counter(row["id"] for kind in ("data", "failures") for row in rows(store, ["id"], kind))
    assert set(seen) == {f"row {i}" for i in range(NUM_ROWS)}
    assert set(seen.values()) == {1}
    report = verify(store)
    assert not report.problems and not report.missing_shards
    made = objects(store)
    assert made.keys() == reference.keys()
    assert {name for name in made if made[name] != reference[name]} == set()


def assert_only_whole_objects(store: Store) -> None:
    """Check that every committed part exists and every part that a reader could open is complete, at any moment."""
    for folder in ("data", "failures"):
        for name in store.names(folder):
            pq.read_table(io.BytesIO(store.get(f"{folder}/{name}")))
    unfinished = "belongs to no commit"  # a writer that works or was stopped leaves such parts; readers ignore them
    assert not [problem for problem in verify(store).problems if unfinished not in problem]


def commits_at_least(store: Store, count: int) -> Callable[[], bool]:
    return lambda: len(committed_shards(store)) >= count


T = TypeVar("T")


def wait_for(what: Callable[[], T], process: subprocess.Popen[str] | None = None, seconds: float = 120) -> T:
    """Wait until `what()` is true and return its value; fail if `process` ends or the time is up."""
    give_up = time.monotonic() + seconds
    while not (found := what()):
        assert process is None or process.poll() is None, process.communicate()[1]
        assert time.monotonic() < give_up, f"still not true after {seconds} s"
        time.sleep(0.1)
    return found
