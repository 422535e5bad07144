"""From a checkpoint to the four stages, each alone: what `Bark.load` and the Ray actors both do."""

from collections.abc import Callable

import torch

from pipeline.bark.coarse import CoarseStage
from pipeline.bark.decode import DecodeStage
from pipeline.bark.fine import FineStage
from pipeline.bark.semantic import SemanticStage
from pipeline.bark.stage import Stage, is_good_slots
from pipeline.bark.text import TextEncoder
from pipeline.errors import ConfigError
from pipeline.model.checkpoint import Checkpoint

Builder = Callable[[Checkpoint, torch.device, torch.dtype, int], Stage]

BUILDERS: dict[str, Builder] = {
    "semantic": lambda c, device, dtype, slots: SemanticStage(c.semantic(), c.vocabulary, slots, device, dtype),
    "coarse": lambda c, device, dtype, slots: CoarseStage(c.coarse(), c.vocabulary, slots, device, dtype),
    "fine": lambda c, device, dtype, slots: FineStage(c.fine(), device, dtype),
    "decode": lambda c, device, dtype, slots: DecodeStage(c.codec(), device),
}

DEFAULT_SLOTS = {"cpu": 8, "cuda": 32}


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
