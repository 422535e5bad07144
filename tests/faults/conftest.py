"""A job that takes a while, what it writes when nobody disturbs it, and what must hold after every disturbance."""

import os

# read when gcsfs is imported: else it tries gRPC for a minute
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

NUM_ROWS, FAILING = 64, 5  # every FAILING-th row has no text


@pytest.fixture(scope="package")
def head() -> Iterator[Head]:
    with ray_head(num_cpus=4) as made:
        yield made


@dataclass(frozen=True)
class Job:
    """One config, to be run into any output."""

    config: Path

    def command(self, output: str, *words: str) -> list[str]:
        return [sys.executable, "-m", "pipeline.cli", "generate", str(self.config), "--output", output, *words]

    def start(self, output: str, head: Head, *words: str) -> subprocess.Popen[str]:
        command = self.command(output, "--address", head.address, *words)
        pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        return subprocess.Popen(command, env=head.env, cwd=PROJECT, **pipes)

    def run(self, output: str, head: Head, *words: str) -> subprocess.CompletedProcess[str]:
        """To the end: exit code 3, since some rows fail."""
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
def undisturbed(job: Job, head: Head, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """Every object of a run in which nothing went wrong."""
    output = str(tmp_path_factory.mktemp("undisturbed") / "out")
    done = job.run(output, head)
    assert done.returncode == 3, done.stderr
    return objects(Store(output))


def objects(store: Store) -> dict[str, bytes]:
    """All objects but the plan's, by name."""
    found = {f"{folder}/{name}" for folder in ("data", "failures", "_commits") for name in store.names(folder)}
    return {name: store.get(name) for name in sorted(found)}


def assert_undamaged(store: Store, undisturbed: dict[str, bytes]) -> None:
    """in = written + failed, no id twice, and the bytes that nobody's death has changed."""
    seen = Counter(row["id"] for kind in ("data", "failures") for row in rows(store, ["id"], kind))
    assert set(seen) == {f"row {i}" for i in range(NUM_ROWS)}
    assert set(seen.values()) == {1}
    report = verify(store)
    assert not report.problems and not report.missing_shards
    made = objects(store)
    assert made.keys() == undisturbed.keys()
    assert {name for name in made if made[name] != undisturbed[name]} == set()


def assert_only_whole_objects(store: Store) -> None:
    """At any moment: what is committed is there, and every part that a reader could open is complete."""
    for folder in ("data", "failures"):
        for name in store.names(folder):
            pq.read_table(io.BytesIO(store.get(f"{folder}/{name}")))
    unfinished = "belongs to no commit"  # what a writer that is at work, or was stopped, leaves: no reader takes it
    assert not [problem for problem in verify(store).problems if unfinished not in problem]


def commits_at_least(store: Store, count: int) -> Callable[[], bool]:
    return lambda: len(committed_shards(store)) >= count


T = TypeVar("T")


def wait_for(what: Callable[[], T], process: subprocess.Popen[str] | None = None, seconds: float = 120) -> T:
    """Until it is so, and what it is then; fails if the process that should bring it about ends before."""
    give_up = time.monotonic() + seconds
    while not (found := what()):
        assert process is None or process.poll() is None, process.communicate()[1]
        assert time.monotonic() < give_up, "it did not come"
        time.sleep(0.1)
    return found
