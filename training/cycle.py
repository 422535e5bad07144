"""What the training steps share: one cycle of the learning rate, and a state file that is never half written."""

import math
import pathlib

import torch

PEAK_RATE, LATER, LAST = 2e-3, 0.6, 0.02  # later cycles peak at LATER of it; each ends at LAST of its peak


def learning_rate(part: float, steps: int, warm_steps: int, resumes: bool) -> float:
    """A linear rise over `warm_steps`, and half a cosine.

    Args:
        part: of the run's time, 0 to 1.
        steps: made in this run.
        resumes: it goes on from an earlier run's weights.
    """
    peak = PEAK_RATE * (LATER if resumes else 1)
    return peak * min(1.0, (steps + 1) / warm_steps) * (LAST + (1 - LAST) * (1 + math.cos(math.pi * part)) / 2)


def save(path: pathlib.Path, state: dict) -> None:
    """Replace the state at once, so that a run that is killed leaves the old one or the new one."""
    torch.save(state, path.with_suffix(".partial"))
    path.with_suffix(".partial").rename(path)
