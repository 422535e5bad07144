"""`barkery reproduce`: whether rows that are made again sound the same to the last bit, and if not, what differs."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby

import numpy as np
import torch

from pipeline.bark.registry import STAGES
from pipeline.errors import RowError
from pipeline.flow.pool_actor import gpu_name
from pipeline.reproduce.find import FoundRow
from pipeline.reproduce.replay import recorded_config, replay
from pipeline.shards.audio import decode, encode
from pipeline.shards.environment import current_environment, environment_id, read_environment
from pipeline.shards.writer import Commit, FailedRow
from pipeline.spec import SAMPLE_RATE
from pipeline.storage.store import Store

FULL_SCALE = 32_768


@dataclass(frozen=True)
class Reproduction:
    """One row that was made again, compared with the committed one."""

    id: str
    samples: np.ndarray  # (N,) int16, as made again; empty if that failed
    recorded: np.ndarray  # (M,) int16, as committed
    error: RowError | None = None
    environment: list[str] = field(default_factory=list)  # what differs from the recorded environment

    @property
    def is_identical(self) -> bool:
        return self.error is None and np.array_equal(self.samples, self.recorded)

    @property
    def result(self) -> str:
        """One line for people."""
        if self.error is not None:
            return f"can't be made again: {self.error}"
        if self.is_identical:
            return f"identical: {self.recorded.size:,} samples, {self.recorded.size / SAMPLE_RATE:.2f} s"
        if self.samples.size != self.recorded.size:
            return f"differs: {self.samples.size:,} samples, was {self.recorded.size:,}"
        difference = np.abs(self.samples.astype(np.int32) - self.recorded)
        first = int(np.flatnonzero(difference)[0])
        return (
            f"differs in {np.count_nonzero(difference):,} of {self.recorded.size:,} samples, from "
            f"{first / SAMPLE_RATE:.2f} s on, by at most {difference.max() / FULL_SCALE:.2%} of full scale"
        )


def reproduce(store: Store, rows: Sequence[FoundRow], model: str | None = None) -> Iterator[Reproduction]:
    """Make rows of an output again and compare them; nothing is written.

    Args:
        model: folder or hub id of the model, if it is no longer where the run recorded it.

    Raises:
        ConfigError: the model is missing or another one, or this machine can't compute as the run did.
    """
    ordered = sorted(rows, key=lambda found: found.plan.generation)
    for _, group in groupby(ordered, key=lambda found: found.plan.generation):
        found = list(group)
        plan = found[0].plan
        config = recorded_config(store, plan, model)
        threads = torch.get_num_threads()
        try:
            outcomes = replay(store, plan, found, model)
        finally:
            torch.set_num_threads(threads)
        gpus = {stage: gpu_name(config.pools[stage]) for stage in STAGES}
        for each, outcome in zip(found, outcomes, strict=True):
            recorded = decode(each.row["audio"]["bytes"])
            differences = environment_differences(store, each.commit, gpus)
            if isinstance(outcome, FailedRow):
                empty = np.zeros(0, np.int16)
                yield Reproduction(each.row["id"], empty, recorded, outcome.error, differences)
            else:  # through the same encoder: MP3 changes samples
                samples = decode(encode(outcome.samples, config.audio.format))
                yield Reproduction(each.row["id"], samples, recorded, None, differences)


def environment_differences(store: Store, commit: Commit, gpus: dict[str, str | None]) -> list[str]:
    """How this process's environment differs from the recorded one of each stage; equal lines of stages are joined."""
    if not commit.environments:
        return ["the environment was not recorded (made by barkery 0.1.0)"]
    lines: dict[str, list[str]] = {}
    for stage, name in commit.environments.items():
        now = current_environment(gpus.get(stage))
        if environment_id(now) == name:
            continue
        then = read_environment(store, name)
        for key in [key for key in {**then, **now} if then.get(key) != now.get(key)]:
            lines.setdefault(f"{key} was {shown(then, now, key)}, is {shown(now, then, key)}", []).append(stage)
    return [f"{', '.join(stages)}: {line}" for line, stages in lines.items()]


def shown(one: dict[str, object], other: dict[str, object], key: str) -> str:
    """A value of an environment; of a list, only what the other does not have."""
    value, compared = one.get(key), other.get(key)
    if isinstance(value, list) and isinstance(compared, list):
        return " ".join(str(each) for each in value if each not in compared) or "without these"
    return str(value)
