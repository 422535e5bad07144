"""`ray start --head`, then `ray job submit -- python -m jobs.generate`: the way a cluster is used."""

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
import yaml

from pipeline.config import RunConfig

PROJECT = Path(__file__).parent.parent.parent
RAY = Path(sys.executable).parent / "ray"


def free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [each.getsockname()[1] for each in sockets]


@pytest.fixture
def head() -> Iterator[tuple[dict[str, str], str, Path]]:
    """A head node in processes of its own; yields the environment for clients, its address, and its logs' folder.

    It shares nothing with the other tests' Ray: a second agent on Ray's default port 52365 never answers.
    """
    env = {
        **os.environ,
        "RAY_AUTH_MODE": "disabled",
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
    }
    env.pop("RAY_ADDRESS", None)
    folder = Path(tempfile.mkdtemp(prefix="head"))  # not tmp_path: a socket's path has 107 bytes at most
    port, dashboard, agent = free_ports(3)
    start = [str(RAY), "start", "--head", "--num-cpus=4", f"--port={port}", f"--temp-dir={folder}", "--block"]
    start += ["--dashboard-host=127.0.0.1", f"--dashboard-port={dashboard}", f"--dashboard-agent-listen-port={agent}"]
    log = (folder / "start.log").open("w")
    process = subprocess.Popen(start, env=env, stdout=log, stderr=log, start_new_session=True)
    yield env, f"http://127.0.0.1:{dashboard}", folder
    children = psutil.Process(process.pid).children(recursive=True)  # `ray stop` would end the other tests' Ray, too
    for child in [*children, psutil.Process(process.pid)]:
        child.kill()
    process.wait(timeout=30)
    shutil.rmtree(folder, ignore_errors=True)


def tails(folder: Path) -> str:
    """The last lines of the logs that tell why a head takes no jobs."""
    names = ("start.log", "session_latest/logs/dashboard_agent.log", "session_latest/logs/dashboard.err")
    return "\n".join(f"--- {name}\n{(folder / name).read_text()[-1500:]}" for name in names if (folder / name).exists())


def test_ray_job_submit_runs_the_main_job(
    head: tuple[dict[str, str], str, Path], make_config: Callable[..., RunConfig], tmp_path: Path
) -> None:
    work = tmp_path / "work"  # what --working-dir uploads: the project without its tests and environments
    for name in ("pipeline", "jobs"):
        shutil.copytree(PROJECT / name, work / name, ignore=shutil.ignore_patterns("__pycache__"))
    config = make_config(limit=3).model_dump(mode="json", exclude={"storage_options"})
    (work / "run.yaml").write_text(yaml.safe_dump(config))
    env, address, logs = head
    submit = [str(RAY), "job", "submit", "--address", address, "--working-dir", str(work), "--"]
    submit += [sys.executable, "-m", "jobs.generate", "run.yaml", "--set", "seed=4"]
    not_yet = ("Failed to connect", "No available agent")  # a head that has just been started
    give_up = time.monotonic() + 120
    while True:
        done = subprocess.run(submit, env=env, capture_output=True, text=True, timeout=150, check=False)
        starting = done.returncode != 0 and any(words in done.stdout + done.stderr for words in not_yet)
        if not starting or time.monotonic() > give_up:
            break
        time.sleep(2)
    assert done.returncode == 0, done.stdout + done.stderr + tails(logs)
    assert "in 3 = written 3 + failed 0" in done.stdout
    assert len(list(Path(config["output"], "_commits").iterdir())) == 1
