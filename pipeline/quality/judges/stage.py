"""The judges as a stage of the pipeline, after the sound: several clips at a time, each alone in its arithmetic."""

from collections import deque
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

from pipeline.quality.judges.clip import HeardClip, Judge, judge_all

DEFAULT_SLOTS = 1


class JudgeStage:
    """A `Stage` (bark/stage.py): takes a HeardClip, makes its scores."""

    def __init__(self, judges: dict[str, Judge], slots: int):
        self.judges = judges
        self.slots = slots
        self.waiting: deque[tuple[HeardClip, Any]] = deque()
        self.threads = ThreadPoolExecutor(slots)
        self.clips = self.passes = 0

    def submit(self, utterance: Any, x: HeardClip, done: Any) -> None:
        self.waiting.append((x, done))

    def step(self) -> bool:
        """Judge as many clips as there are slots; False when none is left."""
        jobs = [self.waiting.popleft() for _ in range(min(self.slots, len(self.waiting)))]
        for (_, done), scores in zip(
            jobs, self.threads.map(partial(judge_all, self.judges), [clip for clip, _ in jobs]), strict=True
        ):
            done(scores)
        self.clips += len(jobs)
        self.passes += bool(jobs)
        return bool(self.waiting)
