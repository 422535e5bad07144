"""Jobs over finished outputs on Ray: what `flow/tasks.py` promises, and an export that uses it."""

import json
import os
import signal
from pathlib import Path

import pytest

from pipeline.errors import ConfigError
from pipeline.export import job, plan
from pipeline.export.settings import parse_splits
from pipeline.flow.tasks import run_tasks
from tests.export.conftest import make_output
from tests.export.test_job import files, run


@pytest.mark.usefixtures("cluster")
def test_tasks_run_on_ray_and_survive_the_death_of_their_process(tmp_path: Path) -> None:
    def once(number: int) -> int:
        marker = tmp_path / str(number)
        if number == 3 and not marker.exists():
            marker.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        if number == 99:
            raise ConfigError("as it was raised")
        return number * number

    assert sorted(run_tasks(once, range(6))) == [0, 1, 4, 9, 16, 25]
    with pytest.raises(ConfigError, match="as it was raised"):
        list(run_tasks(once, [99]))


@pytest.mark.usefixtures("cluster")
def test_export_on_ray_equals_the_one_in_this_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    finished_output = make_output(tmp_path / "out")
    monkeypatch.setattr(plan, "SHARD_BYTES", 60_000)
    run(finished_output, tmp_path / "here", "nemo", splits=parse_splits("train=0.8,test=0.2"))
    monkeypatch.setattr(job, "HERE_SAMPLES", 0)
    monkeypatch.setattr(job, "PARTS_PER_TASK", 2)
    run(finished_output, tmp_path / "on_ray", "nemo", splits=parse_splits("train=0.8,test=0.2"))
    assert files(tmp_path / "here") == files(tmp_path / "on_ray")
    assert len(json.loads(files(tmp_path / "here")[".barkery/plan.json"])["splits"]) == 2
