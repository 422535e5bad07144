"""Small real checkpoints, made once per run: a two-layer Bark in both formats, with Bark's real vocabularies."""

import os

os.environ.setdefault("RAY_DATA_DISABLE_PROGRESS_BARS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")  # nothing in the suite may need a model hub

from pathlib import Path

import pytest
import torch

from pipeline import Bark
from pipeline.checkpoints.checkpoint import Checkpoint
from pipeline.checkpoints.export import save_suno
from pipeline.checkpoints.random import RandomCheckpoint, character_tokenizer, write_random_checkpoint

torch.set_num_threads(1)  # two tiny layers: a second thread only waits

TINY = RandomCheckpoint(eos_gain=2.6)  # ends after some 30 to 200 tokens


@pytest.hookimpl(tryfirst=True)  # before xdist reads the groups
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests that start Ray, and say which tests stay together when several processes share the work (-n 2).

    Those with the fixture `cluster` share one Ray. They take longest and so come first. Other files stay whole, since
    their tests share fixtures.
    """
    for item in items:
        shares_ray = "cluster" in item.fixturenames  # type: ignore[attr-defined]
        if shares_ray:
            item.add_marker("ray")
        item.add_marker(pytest.mark.xdist_group("cluster" if shares_ray else item.path.name))
    items.sort(key=lambda item: item.get_closest_marker("ray") is None)


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
