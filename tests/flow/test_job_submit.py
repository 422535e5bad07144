"""`ray start --head`, then `ray job submit -- python -m jobs.generate`: how a cluster is used."""

import sys
from pathlib import Path

import pytest
import yaml

from tests.flow.conftest import MakeConfig
from tests.ray_head import ray_head, submitted, working_dir


def tails(folder: Path) -> str:
    """The last lines of the logs that show why a head accepts no jobs."""
    names = ("start.log", "session_latest/logs/dashboard_agent.log", "session_latest/logs/dashboard.err")
    return "\n".join(f"--- {name}\n{(folder / name).read_text()[-1500:]}" for name in names if (folder / name).exists())


@pytest.mark.ray
def test_ray_job_submit_runs_the_main_job(make_config: MakeConfig, tmp_path: Path) -> None:
    work = tmp_path / "work"
    upload = working_dir(work)
    config = make_config(limit=3).model_dump(mode="json", exclude={"storage_options"})
    (work / "run.yaml").write_text(yaml.safe_dump(config))
    command = [*upload, "--", sys.executable, "-m", "jobs.generate", "run.yaml", "--set", "seed=4"]
    with ray_head() as head:
        done = submitted(head, command)
        assert done.returncode == 0, done.stdout + done.stderr + tails(head.folder)
    assert "in 3 = written 3 + failed 0" in done.stdout
    assert len(list(Path(config["output"], "_commits").iterdir())) == 1
