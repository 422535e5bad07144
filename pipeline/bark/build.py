"""From a checkpoint to the four stages, each alone: what `Bark.load` and the Ray actors both do."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import TypeVar

import torch

from pipeline.bark.coarse import CoarseStage
from pipeline.bark.decode import DecodeStage
from pipeline.bark.fine import FineStage
from pipeline.bark.semantic import SemanticStage
from pipeline.bark.stage import Stage, is_good_slots
from pipeline.bark.text import TextEncoder
from pipeline.checkpoints.checkpoint import Checkpoint
from pipeline.errors import ConfigError
from pipeline.kernels.autotune import INT8_KERNELS, PLAIN_KERNELS, KernelConfig, autotune, require_int8
from pipeline.kernels.memory import keep_freed_memory
from pipeline.model.fine import FineGPT
from pipeline.model.gpt import GPT

M = TypeVar("M", GPT, FineGPT)


@dataclass(frozen=True)
class ExecutionConfig:
    """Where a stage computes, and how: what decides the low bits of its numbers."""

    device: torch.device
    dtype: torch.dtype
    slots: int
    kernels: KernelConfig


Builder = Callable[[Checkpoint, ExecutionConfig], Stage]
Autotuner = Callable[[int, int, torch.dtype, str | None], KernelConfig]  # slots, width, dtype, quantize

BUILDERS: dict[str, Builder] = {
    "semantic": lambda c, execution: SemanticStage(ready(c.semantic(), execution), c.vocabulary, execution.slots),
    "coarse": lambda c, execution: CoarseStage(ready(c.coarse(), execution), c.vocabulary, execution.slots),
    "fine": lambda c, execution: FineStage(ready(c.fine(), execution)),
    "decode": lambda c, execution: DecodeStage(c.codec(), execution.device),
}

DEFAULT_SLOTS = {"cpu": 8, "cuda": 32}
NARROW = 250  # below this width a product is over before its layout matters


def ready(model: M, execution: ExecutionConfig) -> M:
    """A model on its device, its weights laid out for it."""
    keep_freed_memory()
    model = model.to(execution.device, execution.dtype)
    model.pack_weights(execution.kernels)
    return model


@lru_cache
def _autotune_once(slots: int, width: int, dtype: torch.dtype, quantize: str | None, threads: int) -> KernelConfig:
    return autotune(slots, width, dtype, quantize)


def autotune_once(slots: int, width: int, dtype: torch.dtype, quantize: str | None) -> KernelConfig:
    """The fastest layout with torch's current threads; once per process: two stages of one never differ."""
    return _autotune_once(slots, width, dtype, quantize, torch.get_num_threads())


def make_execution_config(
    *,
    device: str,
    dtype: str,
    slots: int | None,
    quantize: str | None,
    width: int,
    autotuner: Autotuner = autotune_once,
) -> ExecutionConfig:
    """Settings as they are asked for -> what they mean on this machine; `width` is the transformers'.

    `autotuner` is asked where the layout is free; a run has its own, on which all its actors agree.

    Raises:
        ConfigError: this machine can't do it.
    """
    on, kind = pick_device(device), pick_dtype(dtype, device)
    count = pick_slots(slots, on)
    if quantize not in (None, "int8"):
        raise ConfigError(f"quantize {quantize!r} is none of int8, None")
    if quantize:
        require_int8(on, kind)
    if on.type != "cpu" or width < NARROW:
        return ExecutionConfig(on, kind, count, INT8_KERNELS if quantize else PLAIN_KERNELS)
    return ExecutionConfig(on, kind, count, autotuner(count, width, kind, quantize))


def load_text_encoder(checkpoint: Checkpoint, tokenizer: str | None) -> TextEncoder:
    return TextEncoder.load(checkpoint.folder, checkpoint.vocabulary, tokenizer)


def pick_device(device: str) -> torch.device:
    """`auto` is CUDA where there is one, else the CPU."""
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        chosen = torch.device(device)
    except RuntimeError as error:
        raise ConfigError(f"device {device!r} is none: use auto, cpu, cuda or cuda:N") from error
    if chosen.type not in DEFAULT_SLOTS:
        raise ConfigError(f"device {device!r} is not supported: use auto, cpu, cuda or cuda:N")
    if chosen.type == "cuda" and not torch.cuda.is_available():
        raise ConfigError(f"device {device!r}: this machine has no usable CUDA device; use cpu")
    return chosen


def pick_dtype(dtype: str, device: str) -> torch.dtype:
    """`auto` is float32 on a CPU and bfloat16 on CUDA."""
    if dtype == "auto":
        return torch.bfloat16 if pick_device(device).type == "cuda" else torch.float32
    kinds = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
    if dtype not in kinds:
        raise ConfigError(f"dtype {dtype!r} is none of auto, {', '.join(kinds)}")
    return kinds[dtype]


def pick_slots(slots: int | None, device: torch.device) -> int:
    """As asked, else by the device."""
    if slots is None:
        return DEFAULT_SLOTS[device.type]
    if not is_good_slots(slots):
        raise ConfigError(f"slots must be 1 to 4 or a multiple of 4, is {slots}")
    return slots
