"""How far a faster way of computing is from float32: on the same prompts, the same weights."""

from dataclasses import dataclass, replace

import torch

from pipeline.bark.build import ExecutionConfig, prepare_model
from pipeline.bark.engine_factory import make_engine
from pipeline.checkpoints.checkpoint import Checkpoint
from pipeline.kernels.autotune import PLAIN_KERNELS

PROMPTS, POSITIONS = 16, 300


@dataclass(frozen=True)
class Agreement:
    """Of the coarse model's next-token logits."""

    logit_error: float  # standard deviation of the difference over that of the logits
    same_argmax: float  # share of prompts whose likeliest token is the same


@torch.inference_mode()
def agreement(checkpoint: Checkpoint, execution: ExecutionConfig) -> Agreement:
    """`execution` against float32 in the plain layout, on random prompts of coarse tokens."""
    low, high = checkpoint.vocabulary.coarse_range(0)
    generator = torch.Generator().manual_seed(0)
    prompts = torch.randint(low, high, (PROMPTS, POSITIONS), generator=generator)
    theirs, ours = (
        logits(checkpoint, each, prompts)
        for each in (replace(execution, dtype=torch.float32, kernels=PLAIN_KERNELS), execution)
    )
    same = (ours.argmax(-1) == theirs.argmax(-1)).double().mean()
    return Agreement(round(float((ours - theirs).std() / theirs.std()), 4), round(float(same), 3))


def logits(checkpoint: Checkpoint, execution: ExecutionConfig, prompts: torch.Tensor) -> torch.Tensor:
    """(prompts, V) float32, on the CPU."""
    engine = make_engine(prepare_model(checkpoint.coarse(), execution), 1, POSITIONS)
    rows = [engine.model.prefill(prompt.to(execution.device), engine.cache, 0) for prompt in prompts]
    return torch.cat(rows).cpu()
