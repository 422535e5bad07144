"""A run that can't be finished says why in one line and what to do."""

from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.config import RunConfig
from pipeline.errors import IncompleteError
from pipeline.flow.driver import run


@pytest.mark.usefixtures("cluster")
def test_an_output_that_breaks_on_the_way_ends_with_its_reason(make_config: Callable[..., RunConfig]) -> None:
    config = make_config(limit=2)
    Path(config.output).mkdir()
    data = Path(config.output, "data")
    data.touch()  # a file where the folder of the parts must be
    with pytest.raises(IncompleteError, match=r"1 of 1 shards are missing .*StorageError: .*data.*NotADirectoryError"):
        run(config)
    data.unlink()
    assert run(config).written == 2  # mended, the same command goes on


@pytest.mark.usefixtures("cluster")
def test_an_actor_that_can_never_start_ends_the_run_at_once(make_config: Callable[..., RunConfig]) -> None:
    config = make_config(limit=2)
    pool = config.pools.semantic.model_copy(update={"slots": 4_000_000})  # 2 TB of keys and values
    config = config.model_copy(update={"pools": config.pools.model_copy(update={"semantic": pool})})
    with pytest.raises(IncompleteError, match=r"shards are missing .*ConfigError: slots: 4000000 need .* ask for \d+"):
        run(config)
