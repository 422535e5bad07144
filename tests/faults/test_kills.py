"""Processes that die while a job runs (actors, a node, the driver, the job), and two drivers at once."""

import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from pipeline.bark.registry import STAGES
from pipeline.shards.plan import open_plans
from pipeline.shards.reader import committed_shards, rows
from pipeline.shards.verify import verify
from pipeline.storage.store import Store
from tests.faults.conftest import (
    Job,
    assert_only_whole_objects,
    assert_undamaged,
    commits_at_least,
    objects,
    wait_for,
)
from tests.ray_head import RAY, Head, Node, ray_head, submitted, working_dir

pytestmark = [pytest.mark.faults, pytest.mark.timeout(900)]


def actors(node: Node, stage: str) -> list[psutil.Process]:
    """Processes of a pool's actors on a node."""
    found = []
    for each in node.processes():
        try:
            if f"({stage.capitalize()}" in each.name() + " ".join(each.cmdline()):
                found.append(each)
        except psutil.NoSuchProcess:
            pass
    return found


# Kill once this many shards are committed and the actor has used this many times the CPU time of loading: while it loads,
# and in the middle of a shard. The first stage finishes before many shards are committed, so its CPU time decides.
KILLED_AT = {stage: [(0, 0.0), (1, 0.0), (3, 0.0), (6, 0.0)] for stage in STAGES}
KILLED_AT["semantic"] = [(0, 0.0), (0, 1.1), (0, 1.1)]


@pytest.fixture(scope="module")
def load_s(tiny: Path) -> float:
    """CPU seconds that this machine needs to load what an actor of the first stage loads; machines differ by a factor of
    two.

    The smaller of two measurements: the first one may compile kernels, which actors then find in numba's cache.
    """
    code = """
import sys
from pathlib import Path
import pipeline.flow.pool_actor
from pipeline.bark.build import make_execution_config
from pipeline.bark.registry import STAGES
from pipeline.checkpoints.checkpoint import Checkpoint
checkpoint = Checkpoint(Path(sys.argv[1]))
how = dict(device="cpu", dtype="float32", slots=4, quantize=None, width=checkpoint.width)
STAGES["semantic"].build(checkpoint, make_execution_config(**how))
"""
    found = []
    for _ in range(2):
        before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
        subprocess.run([sys.executable, "-c", code, str(tiny)], check=True)
        found.append(resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - before)
    return min(found)


def ready_to_kill(actors: list[psutil.Process], killed: set[int], cpu_s: float) -> list[psutil.Process]:
    """The actors that are not killed yet and have used `cpu_s` of CPU time."""
    return [each for each in actors if each.pid not in killed and each.cpu_times().user >= cpu_s]


@pytest.fixture
def output(tmp_path: Path) -> Iterator[Store]:
    yield Store(str(tmp_path / "out"))


@pytest.mark.parametrize("stage", STAGES)
def test_actors_are_killed_repeatedly(
    stage: str, job: Job, head: Head, output: Store, reference: dict[str, bytes], load_s: float
) -> None:
    others = {actor.pid for actor in actors(head.node, stage)}  # of the previous job, still ending
    process, killed = job.start(output.url, head), set[int]()
    for commits, loads in KILLED_AT[stage]:
        wait_for(commits_at_least(output, commits), process)
        found = wait_for(lambda: ready_to_kill(actors(head.node, stage), others | killed, loads * load_s), process)  # noqa: B023
        for actor in found:
            actor.kill()
            killed.add(actor.pid)
        assert_only_whole_objects(output)
    _, err = process.communicate(timeout=400)
    assert process.returncode == 3, err
    assert len(killed) >= len(KILLED_AT[stage])
    assert_undamaged(output, reference)


def test_node_is_lost(job: Job, output: Store, reference: dict[str, bytes]) -> None:
    two_each = [word for stage in STAGES for word in ("--set", f"pools.{stage}.actors=2")]
    with ray_head(num_cpus=4, alone=False) as head, head.second_node(num_cpus=4) as second:
        wait_for(lambda: any(each.name() == "ray::DashboardAgent" for each in second.processes()))  # it has joined
        process = job.start(output.url, head, *two_each)
        wait_for(commits_at_least(output, 3), process)
        assert any(actors(second, stage) for stage in STAGES), "nothing ran on the second node"
        second.kill()
        _, err = process.communicate(timeout=400)
    assert process.returncode == 3, err
    assert_undamaged(output, reference)


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_driver_dies_and_the_job_is_run_again(
    how: signal.Signals, job: Job, head: Head, output: Store, reference: dict[str, bytes]
) -> None:
    for count in (1, 6):
        process = job.start(output.url, head)
        wait_for(commits_at_least(output, count), process)
        process.send_signal(how)
        process.communicate(timeout=60)
        assert_only_whole_objects(output)
    assert job.run(output.url, head).returncode == 3
    assert_undamaged(output, reference)


GATE = (  # about half of the clips are cut, and are spoken again; the best of three attempts is kept
    "quality.attempts=3",
    "quality.max_extra=2",
    "quality.reject.stop=[length]",
    "quality.semantic_attempts=2",
    "limit=24",
)


def test_kills_do_not_change_attempts(job: Job, head: Head, tmp_path: Path) -> None:
    """Actors and driver die in the first generation and in later ones: every object is as in a run without faults."""
    words = [word for change in GATE for word in ("--set", change)]
    calm, output = Store(str(tmp_path / "calm")), Store(str(tmp_path / "out"))
    assert job.run(calm.url, head, *words).returncode == 3
    generations = open_plans(calm)
    assert len(generations) >= 3 and any(row["quality"]["verdict"] == "kept" for row in rows(calm))
    for plan in generations[:3]:
        process = job.start(output.url, head, *words)
        wait_for(commits_at_least(output, plan.first_shard + 1), process, seconds=300)
        for actor in actors(head.node, "coarse"):
            actor.kill()
        wait_for(commits_at_least(output, plan.first_shard + min(2, plan.num_shards)), process, seconds=300)
        process.kill()
        process.communicate(timeout=60)
    assert job.run(output.url, head, *words).returncode == 3
    assert verify(output).problems == []
    assert objects(output) == objects(calm)


def test_job_is_stopped_and_submitted_again(
    job: Job, head: Head, output: Store, reference: dict[str, bytes], tmp_path: Path
) -> None:
    words = working_dir(tmp_path / "work")
    entry = ["--", sys.executable, "-m", "jobs.generate", str(job.config), "--output", output.url]
    assert submitted(head, [*words, "--no-wait", "--submission-id", "first", *entry]).returncode == 0
    wait_for(commits_at_least(output, 3))
    stop = [str(RAY), "job", "stop", "--address", head.dashboard, "first"]
    subprocess.run(stop, env=head.env, check=True, capture_output=True, timeout=60)
    committed_before = len(committed_shards(output))
    assert_only_whole_objects(output)
    done = submitted(head, [*words, "--submission-id", "second", *entry], timeout_s=300)
    assert f"in 64 = written 51 + failed 13 in {output.url}" in done.stdout, done.stdout + done.stderr
    assert committed_before < len(committed_shards(output))
    assert_undamaged(output, reference)


def test_two_drivers_on_one_output(job: Job, head: Head, output: Store, reference: dict[str, bytes]) -> None:
    both = [job.start(output.url, head) for _ in range(2)]
    ends = [process.communicate(timeout=400) for process in both]
    assert [process.returncode for process in both] == [3, 3], ends
    warnings = [err for _, err in ends if "another run is writing to this output" in err]
    assert warnings, ends
    assert_undamaged(output, reference)
