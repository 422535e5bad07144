"""Jobs that write to real storage servers, also through a proxy that injects faults."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from pipeline.bark.voice import load_voice
from pipeline.export import plan
from pipeline.export.formats import FORMATS
from pipeline.export.job import export
from pipeline.export.settings import ExportSettings, parse_splits
from pipeline.shards.reader import committed_shards, rows
from pipeline.storage.store import Store
from tests.export.conftest import make_output
from tests.faults.conftest import Job, assert_only_whole_objects, assert_undamaged
from tests.faults.proxy import faulty
from tests.faults.servers import Server, azure, gcs, s3
from tests.ray_head import Head

pytestmark = [pytest.mark.faults, pytest.mark.timeout(900)]
SHORT_TIMEOUTS = {"config_kwargs": {"read_timeout": 1, "connect_timeout": 1, "retries": {"max_attempts": 1}}}


def into(job: Job, server: Server, folder: Path, name: str, **more: object) -> tuple[Job, Store]:
    """The job with its output on a server."""
    config = yaml.safe_load(job.config.read_text())
    config |= {"output": f"{server.url}/{name}", "storage_options": server.options | more}
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump(config))
    return Job(path), Store(config["output"], config["storage_options"])


@pytest.mark.parametrize("kind", [s3, gcs, azure], ids=lambda kind: kind.__name__)
def test_job_writes_to_a_real_server(
    kind: Callable[[], AbstractContextManager[Server]],
    job: Job,
    head: Head,
    reference: dict[str, bytes],
    tmp_path: Path,
) -> None:
    with kind() as server:
        job_there, store = into(job, server, tmp_path, "night")
        assert store.create("first", b"a") and not store.create("first", b"b") and store.get("first") == b"a"
        done = job_there.run(store.url, head)
        assert done.returncode == 3, done.stderr
        assert_undamaged(store, reference)
        text = (
            done.stdout
            + done.stderr
            + "".join(store.get(f"_plan/{n}").decode("latin1") for n in store.names("_plan") if "." in n)
        )
        secrets = [v for v in server.options.values() if isinstance(v, str) and ("hidden" in v or "AccountKey" in v)]
        assert not [secret for secret in secrets if secret in text]


def test_voices_in_the_same_storage(job: Job, head: Head, tmp_path: Path) -> None:
    """The server's address and key are in the config alone."""
    with s3() as server:
        load_voice("v2/en_speaker_6").save(tmp_path / "mine.npz")
        Store(f"{server.url}/voices", server.options).put("mine.npz", (tmp_path / "mine.npz").read_bytes())
        job_there, store = into(job, server, tmp_path, "voiced")
        voice = f"{server.url}/voices/mine.npz"
        pq.write_table(pa.table({"id": ["a"], "text": ["Hello."], "voice": [voice]}), tmp_path / "rows.parquet")
        done = job_there.run(store.url, head, "--manifest", str(tmp_path / "rows.parquet"))
        assert done.returncode == 0, done.stderr
        (row,) = rows(store, ["voice"])
        assert row["voice"] == voice


def test_job_survives_a_fault_in_every_sixth_request(
    job: Job, head: Head, reference: dict[str, bytes], tmp_path: Path
) -> None:
    with s3() as server, faulty(server.port, chance=1 / 6) as proxy:
        job_there, _ = into(job, server.behind(proxy.port), tmp_path, "storm", **SHORT_TIMEOUTS)
        done = job_there.run(f"{server.url}/storm", head)
        assert done.returncode == 3, done.stderr
        print(f"{proxy.requests} requests, faults {dict(proxy.faults)}")
        assert all(proxy.faults[kind] >= 3 for kind in ("slow", "reset", "lost", "late")), proxy.faults
        assert_undamaged(Store(f"{server.url}/storm", server.options), reference)


def test_credentials_expire_during_a_job(job: Job, head: Head, reference: dict[str, bytes], tmp_path: Path) -> None:
    with s3() as server, faulty(server.port, chance=0) as proxy:
        job_there, _ = into(job, server.behind(proxy.port), tmp_path, "denied", **SHORT_TIMEOUTS)
        store = Store(f"{server.url}/denied", server.options)
        proxy.denies_after = 16
        stopped = job_there.run(store.url, head)
        assert stopped.returncode == 1, stopped.stderr
        assert "PermissionError: Access Denied" in stopped.stderr and "run the same command again" in stopped.stderr
        assert "hidden-in-options" not in stopped.stdout + stopped.stderr
        assert 0 < len(committed_shards(store)) < 16
        assert_only_whole_objects(store)
        proxy.denies_after = None
        assert job_there.run(store.url, head).returncode == 3
        assert_undamaged(store, reference)


def test_missing_server_is_reported_before_anything_starts(job: Job, head: Head, tmp_path: Path) -> None:
    nothing = Server(
        "s3://bucket", {"key": "key", "secret": "hidden-in-options", "endpoint_url": "http://127.0.0.1:9"}, 9
    )
    job_there, store = into(job, nothing, tmp_path, "nowhere", **SHORT_TIMEOUTS)
    done = job_there.run(store.url, head)
    assert done.returncode == 2, done.stderr
    assert "bucket/nowhere/_plan" in done.stderr and "127.0.0.1:9" in done.stderr and "Traceback" not in done.stderr
    assert "trying again" in done.stderr and "hidden-in-options" not in done.stderr


@pytest.mark.parametrize("kind", [s3, gcs, azure], ids=lambda kind: kind.__name__)
def test_export_reads_and_writes_a_real_server(
    kind: Callable[[], AbstractContextManager[Server]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From a server to the same server: all formats hold the bytes that they hold on a disk."""
    monkeypatch.setattr(plan, "SHARD_BYTES", 60_000)
    output = make_output(tmp_path / "out")
    with kind() as server:
        there = Store(f"{server.url}/out", server.options)
        for path in (p for p in output.rglob("*") if p.is_file()):
            there.put(str(path.relative_to(output)), path.read_bytes())
        for name in FORMATS:
            settings = ExportSettings(name, splits=parse_splits("train=0.8,test=0.2"))
            local = Store(str(tmp_path / name))
            export(Store(str(output)), local, settings)
            remote = Store(f"{server.url}/{name}", server.options)
            assert export(there, remote, settings).rows == 39
            names = [str(p.relative_to(tmp_path / name)) for p in (tmp_path / name).rglob("*") if p.is_file()]
            has_paths = {each for each in names if "wav.scp" in each}  # they differ, as they should
            assert len(names) > 8
            for each in set(names) - has_paths:
                assert remote.get(each) == local.get(each), each
            assert export(there, remote, settings).new_rows == 0
