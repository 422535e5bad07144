"""Pools that cannot all run at once are refused, with a suggestion that would fit."""

import pytest

from pipeline.config import RunConfig, parse
from pipeline.errors import ConfigError
from pipeline.flow import preflight

CPU = {"CPU": 16.0}


def config(**pools: dict) -> RunConfig:
    return parse({"model": "m", "manifest": "a", "output": "b", "pools": pools}, "test")


def three(**settings: object) -> RunConfig:
    return config(semantic=dict(settings), coarse=dict(settings), fine=dict(settings))


def test_refuses_three_whole_gpus_on_one_and_suggests_fractions() -> None:
    with pytest.raises(
        ConfigError, match=r"3 GPUs .* of 1 GPUs .*; num_gpus: 0\.33 for each of the 3 actors would fit"
    ):
        preflight.check(three(num_gpus=1), [{"CPU": 16.0, "GPU": 1.0}])
    preflight.check(three(num_gpus=0.33), [{"CPU": 16.0, "GPU": 1.0}])
    preflight.check(three(num_gpus=1), [{"CPU": 16.0, "GPU": 4.0}])


def test_refuses_what_fits_in_total_but_on_no_node() -> None:
    halves = [{"CPU": 4.0, "GPU": 0.5}] * 6
    with pytest.raises(ConfigError, match="does not fit beside the others"):
        preflight.check(three(num_gpus=1), halves)


def test_refuses_more_cpus_than_there_are() -> None:
    with pytest.raises(ConfigError, match=r"4 CPUs of 0 GPUs and 2 CPUs on 1 node; num_cpus: 0\.5 for each of the 4"):
        preflight.check(config(), [{"CPU": 2.0}])
    preflight.check(config(), [CPU])


def test_refuses_a_gpu_on_a_machine_without_one() -> None:
    with pytest.raises(ConfigError, match="there is no GPU: set num_gpus: 0"):
        preflight.check(three(num_gpus=0.1), [CPU])


def test_refuses_fractions_above_one() -> None:
    with pytest.raises(ConfigError, match=r"pools\.fine\.num_gpus: above 1 it must be a whole number"):
        preflight.check(config(fine={"num_gpus": 1.5}), [{"CPU": 16.0, "GPU": 8.0}])
