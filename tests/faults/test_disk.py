"""A disk that becomes full or read-only: a small file system that is mounted for the test."""

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pipeline.shards.reader import committed_shards
from pipeline.storage.store import Store
from tests.faults.conftest import Job, assert_only_whole_objects, assert_undamaged, commits_at_least, wait_for
from tests.ray_head import Head

pytestmark = [pytest.mark.faults, pytest.mark.timeout(900)]
Remount = Callable[[str], None]


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[tuple[Store, Remount]]:
    place = tmp_path / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=600k", "tmpfs", str(place)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("mounting a file system needs root")

    def remount(options: str) -> None:
        subprocess.run(["mount", "-o", f"remount,{options}", str(place)], check=True)

    yield Store(str(place / "out")), remount
    subprocess.run(["umount", "-l", str(place)], check=True)


def test_disk_becomes_full(job: Job, head: Head, reference: dict[str, bytes], disk: tuple[Store, Remount]) -> None:
    store, remount = disk
    stopped = job.run(store.url, head)
    assert stopped.returncode == 1, stopped.stderr
    assert "No space left on device" in stopped.stderr and "run the same command again" in stopped.stderr
    assert 0 < len(committed_shards(store)) < 16
    assert_only_whole_objects(store)
    remount("size=100m")
    assert job.run(store.url, head).returncode == 3
    assert_undamaged(store, reference)


def test_disk_becomes_read_only(job: Job, head: Head, reference: dict[str, bytes], disk: tuple[Store, Remount]) -> None:
    store, remount = disk
    remount("size=100m")
    process = job.start(store.url, head)
    wait_for(commits_at_least(store, 3), process)
    remount("ro")
    _, err = process.communicate(timeout=300)
    assert process.returncode == 1, err
    assert "Read-only file system" in err and "run the same command again" in err
    assert_only_whole_objects(store)
    refused = job.run(f"{store.url}-other", head)
    assert refused.returncode == 2 and "Read-only file system" in refused.stderr
    remount("rw")
    assert job.run(store.url, head).returncode == 3
    assert_undamaged(store, reference)
