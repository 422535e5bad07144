"""`ray start --head`, then `ray job submit -- python -m jobs.generate`: the way a cluster is used."""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
import yaml

from pipeline.config import RunConfig

PROJECT = Path(__file__).parent.parent.parent
RAY = Path(sys.executable).parent / "ray"
PORT, DASHBOARD = 26379, 28265


@pytest.fixture
def head(tmp_path: Path) -> Iterator[dict[str, str]]:
    """A head node in processes of its own; yields the environment for clients."""
    env = {**os.environ, "RAY_AUTH_MODE": "disabled", "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}
    env.pop("RAY_ADDRESS", None)
    ports = [f"--port={PORT}", f"--dashboard-port={DASHBOARD}", "--dashboard-host=127.0.0.1"]
    start = [str(RAY), "start", "--head", "--num-cpus=4", *ports, "--disable-usage-stats", "--block"]
    log = (tmp_path / "head.log").open("w")
    process = subprocess.Popen(start, env=env, stdout=log, stderr=log, start_new_session=True)
    yield env
    children = psutil.Process(process.pid).children(recursive=True)  # `ray stop` would end the other tests' Ray, too
    for child in [*children, psutil.Process(process.pid)]:
        child.kill()
    process.wait(timeout=30)


def test_ray_job_submit_runs_the_main_job(
    head: dict[str, str], make_config: Callable[..., RunConfig], tmp_path: Path
) -> None:
    work = tmp_path / "work"  # what --working-dir uploads: the project without its tests and environments
    for name in ("pipeline", "jobs"):
        shutil.copytree(PROJECT / name, work / name, ignore=shutil.ignore_patterns("__pycache__"))
    config = make_config(limit=3).model_dump(mode="json", exclude={"storage_options"})
    (work / "run.yaml").write_text(yaml.safe_dump(config))
    address = f"http://127.0.0.1:{DASHBOARD}"
    submit = [str(RAY), "job", "submit", "--address", address, "--working-dir", str(work), "--"]
    submit += [sys.executable, "-m", "jobs.generate", "run.yaml", "--set", "seed=4"]
    not_yet = ("Failed to connect", "No available agent")  # a head that has just been started
    for _ in range(40):
        done = subprocess.run(submit, env=head, capture_output=True, text=True, timeout=170, check=False)
        if done.returncode == 0 or not any(words in done.stdout + done.stderr for words in not_yet):
            break
        time.sleep(2)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "in 3 = written 3 + failed 0" in done.stdout
    assert len(list(Path(config["output"], "_commits").iterdir())) == 1
