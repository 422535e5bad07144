"""Compares the logits of faster settings with those of float32, on the same prompts and weights."""

from dataclasses import dataclass, replace

import torch

from pipeline.bark.build import ExecutionConfig, prepare_model
from pipeline.bark.engine_factory import make_engine
from pipeline.checkpoints.checkpoint import Checkpoint
from pipeline.kernels.autotune import PLAIN_KERNELS

PROMPTS, POSITIONS = 16, 300


@dataclass(frozen=True)
class Agreement:
    """How close the coarse model's next-token logits are to float32's."""

    logit_error: float  # standard deviation of the difference, divided by that of the logits
    same_argmax: float  # share of the prompts with the same likeliest token


@torch.inference_mode()
def agreement(checkpoint: Checkpoint, execution: ExecutionConfig) -> Agreement:
    """Compare `execution` with float32 on plain kernels, on random prompts of coarse tokens."""
    low, high = checkpoint.vocabulary.coarse_range(0)
    generator = torch.Generator().manual_seed(0)
    prompts = torch.randint(low, high, (PROMPTS, POSITIONS), generator=generator)
    exact, found = (
        logits(checkpoint, each, prompts)
        for each in (replace(execution, dtype=torch.float32, kernels=PLAIN_KERNELS), execution)
    )
    same = (found.argmax(-1) == exact.argmax(-1)).double().mean()
    return Agreement(round(float((found - exact).std() / exact.std()), 4), round(float(same), 3))


def logits(checkpoint: Checkpoint, execution: ExecutionConfig, prompts: torch.Tensor) -> torch.Tensor:
    """The next-token logits of each prompt: (prompts, V) float32, on the CPU."""
    engine = make_engine(prepare_model(checkpoint.coarse(), execution), 1, POSITIONS)
    rows = [engine.model.prefill(prompt.to(execution.device), engine.cache, 0) for prompt in prompts]
    return torch.cat(rows).cpu()
