"""Small real checkpoints, made once per run: a two-layer Bark in both formats, with Bark's real vocabularies."""

import os

os.environ.setdefault("RAY_DATA_DISABLE_PROGRESS_BARS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")  # nothing in the suite may need a model hub

from pathlib import Path
from typing import Any

import pytest
import torch

from pipeline import Bark
from pipeline.checkpoints.checkpoint import Checkpoint
from pipeline.checkpoints.export import save_suno
from pipeline.checkpoints.random import RandomCheckpoint, character_tokenizer, write_random_checkpoint

torch.set_num_threads(1)  # two tiny layers: a second thread only waits

TINY = RandomCheckpoint(eos_gain=2.6)  # ends after some 30 to 200 tokens


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests that share one Ray. They take longest, so they come first."""
    for item in items:
        if "cluster" in item.fixturenames:  # type: ignore[attr-defined]
            item.add_marker("ray")
    items.sort(key=lambda item: item.get_closest_marker("ray") is None)


@pytest.hookimpl(optionalhook=True)  # of pytest-xdist
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """With several test processes (-n 2), one runs all tests of the flow, since they share a Ray and finished outputs.
    Other files stay whole, since their tests share fixtures."""
    from xdist.scheduler import LoadScopeScheduling

    class ByFile(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            path = nodeid.partition("::")[0]
            alone = "test_job_submit" in path  # starts its own Ray
            return "tests/flow" if path.startswith("tests/flow/") and not alone else path

    config.option.loadscopereorder = False  # by default, the scope with the most tests comes first
    return ByFile(config, log)


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random two-layer checkpoint in Hugging Face's format."""
    return write_random_checkpoint(tmp_path_factory.mktemp("tiny") / "model", TINY)


@pytest.fixture(scope="session")
def tiny_suno(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same weights in Suno's format, with the tokenizer beside them."""
    folder = tmp_path_factory.mktemp("tiny-suno")
    save_suno(Checkpoint(tiny), folder)
    character_tokenizer().save(str(folder / "tokenizer.json"))
    return folder


@pytest.fixture(scope="session")
def bark(tiny: Path) -> Bark:
    return Bark.load(tiny, device="cpu", dtype="float32", slots=4)
