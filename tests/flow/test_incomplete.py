"""A run that cannot finish ends with one line: the reason and what to do."""

from pathlib import Path

import pytest

from pipeline.errors import IncompleteError
from pipeline.flow.driver import run
from tests.flow.conftest import MakeConfig
from tests.flow.in_process import replace_ray


@pytest.mark.usefixtures("cluster")
def test_run_whose_output_breaks_ends_with_the_reason(make_config: MakeConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    config = make_config(limit=2)
    Path(config.output).mkdir()
    data = Path(config.output, "data")
    data.touch()  # a file where the folder of the parts must be
    with pytest.raises(IncompleteError, match=r"1 of 1 shards are missing .*StorageError: .*data.*NotADirectoryError"):
        run(config)
    data.unlink()
    replace_ray(monkeypatch)
    assert run(config).written == 2  # the same command resumes the run


@pytest.mark.usefixtures("cluster")
def test_actor_that_cannot_start_ends_the_run_at_once(make_config: MakeConfig) -> None:
    config = make_config(limit=2)
    pool = config.pools.semantic.model_copy(update={"slots": 4_000_000})  # 2 TB of keys and values
    config = config.model_copy(update={"pools": config.pools.model_copy(update={"semantic": pool})})
    with pytest.raises(IncompleteError, match=r"shards are missing .*ConfigError: slots: 4000000 need .* use \d+"):
        run(config)
