"""The board: a small Ray actor with the last report of every actor, and the attempts that have not ended."""

from collections import defaultdict
from typing import Any

import ray

from pipeline.flow.counts import StageCounts, total
from pipeline.flow.isolation import AttemptKey, AttemptTracker


@ray.remote(num_cpus=0, max_restarts=-1, max_task_retries=-1)
class Board(AttemptTracker):
    """If it is lost, progress and the memory of crashes are lost, and nothing else."""

    def __init__(self, *ignored: Any) -> None:  # see `cluster.start_board`
        super().__init__()
        self.reports: defaultdict[str, dict[str, StageCounts]] = defaultdict(dict)  # by stage and actor

    def begin(self, key: AttemptKey, node: str, at_most: int | None = None) -> int:
        if key in self.nodes:
            self.forget_lost_nodes({node["NodeID"] for node in ray.nodes() if node["Alive"]})
        return super().begin(key, node, at_most)

    def report(self, stage: str, actor: str, counts: StageCounts) -> None:
        self.reports[stage][actor] = counts

    def totals(self) -> dict[str, StageCounts]:
        """The counts of each stage that has reported."""
        return {stage: total(by_actor.values()) for stage, by_actor in self.reports.items()}
