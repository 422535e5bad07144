"""Makes the stage of the judges: what they need of Bark is the sound of a voice."""

import numpy as np
import torch

from pipeline.bark.build import ExecutionConfig
from pipeline.bark.stage import Stage, Stats
from pipeline.bark.voice import load_voice
from pipeline.checkpoints.checkpoint import Checkpoint
from pipeline.errors import RowError
from pipeline.quality.judges.clip import Judge
from pipeline.quality.judges.load import load_judges
from pipeline.quality.judges.settings import JudgeSettings
from pipeline.quality.judges.stage import JudgeStage


def make_judge_stage(settings: JudgeSettings, checkpoint: Checkpoint, execution: ExecutionConfig) -> Stage:
    """The judges on this device, as a stage; raises ConfigError if one can't be loaded."""
    judges = make_judges(settings, checkpoint, str(execution.device), execution.slots)
    return CountedJudgeStage(judges, execution.slots)


def make_judges(
    settings: JudgeSettings, checkpoint: Checkpoint | None, device: str, slots: int = 1
) -> dict[str, Judge]:
    """The judges by name.

    Args:
        checkpoint: for the sound of voices; only the judge of speakers needs it.
    """
    codec = checkpoint.codec() if settings.speaker and checkpoint else None

    def reference(voice: str) -> np.ndarray | None:
        """A voice's own sound, (N,) float32 at 24 kHz: its history prompt, decoded; None if it can't be had."""
        assert codec and checkpoint
        try:
            codes = load_voice(voice, checkpoint.folder).fine
        except RowError:
            return None
        return codec.decode(torch.from_numpy(codes[None].astype(np.int64)))[0].numpy()

    return load_judges(settings, device, torch.get_num_threads(), slots, reference)


class CountedJudgeStage(JudgeStage):
    """With the counts of a stage of Bark."""

    @property
    def stats(self) -> Stats:
        return Stats(self.clips, self.clips, self.passes * self.slots)
