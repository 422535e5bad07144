"""How a stage computes: device, dtype, slots and kernels, for `Bark.load` and the Ray actors alike."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec
from typing import TypeVar

import torch

from pipeline.bark.defaults import resolve_device, resolve_dtype
from pipeline.bark.stage import is_good_slots
from pipeline.bark.text import TextEncoder
from pipeline.checkpoints.checkpoint import Checkpoint
from pipeline.errors import ConfigError
from pipeline.kernels.autotune import INT8_KERNELS, PLAIN_KERNELS, KernelConfig, autotune, require_int8
from pipeline.kernels.memory import keep_freed_memory
from pipeline.kernels.reference import VARIABLE, use_reference
from pipeline.model.fine import FineGPT
from pipeline.model.gpt import GPT

M = TypeVar("M", GPT, FineGPT)


@dataclass(frozen=True)
class ExecutionConfig:
    """Where and how a stage computes. All of it may change the low bits of its numbers."""

    device: torch.device
    dtype: torch.dtype
    slots: int
    kernels: KernelConfig


Autotuner = Callable[[int, int, torch.dtype, str | None], KernelConfig]  # slots, width, dtype, quantize

DEFAULT_SLOTS = {"cpu": 8, "cuda": 32}
MIN_AUTOTUNE_WIDTH = 250  # a narrower model's products are too short for the choice of kernels to matter


def prepare_model(model: M, execution: ExecutionConfig) -> M:
    """Move a model to its device and dtype, and pack its weights for its kernels."""
    keep_freed_memory()
    model = model.to(execution.device, execution.dtype)
    model.pack_weights(execution.kernels)
    return model


@lru_cache
def _autotune_once(
    slots: int, width: int, dtype: torch.dtype, quantize: str | None, threads: int, reference: bool
) -> KernelConfig:
    return autotune(slots, width, dtype, quantize)


def autotune_once(slots: int, width: int, dtype: torch.dtype, quantize: str | None) -> KernelConfig:
    """The fastest kernels with torch's current threads, measured once per process: all its stages use the same."""
    return _autotune_once(slots, width, dtype, quantize, torch.get_num_threads(), use_reference())


def make_execution_config(
    *,
    device: str,
    dtype: str,
    slots: int | None,
    quantize: str | None,
    width: int,
    autotuner: Autotuner = autotune_once,
) -> ExecutionConfig:
    """Turn settings into what they mean on this machine.

    Args:
        device, dtype, slots, quantize: as in `Bark.load`.
        width: of the transformers (C).
        autotuner: chooses the kernels where there is a choice; a run has its own, on which all its actors agree.

    Raises:
        ConfigError: this machine can't compute as asked.
    """
    chosen = pick_device(device)
    numbers = pick_dtype(dtype, chosen)
    count = pick_slots(slots, chosen)
    if not use_reference() and chosen.type == "cpu" and find_spec("numba") is None:
        raise ConfigError(f"numba is not installed: install it, or set {VARIABLE}=reference to compute without it")
    if quantize not in (None, "int8"):
        raise ConfigError(f"unknown quantize {quantize!r}: use int8 or None")
    if quantize:
        require_int8(chosen, numbers)
    if chosen.type != "cpu" or width < MIN_AUTOTUNE_WIDTH:
        return ExecutionConfig(chosen, numbers, count, INT8_KERNELS if quantize else PLAIN_KERNELS)
    return ExecutionConfig(chosen, numbers, count, autotuner(count, width, numbers, quantize))


def load_text_encoder(checkpoint: Checkpoint, tokenizer: str | None) -> TextEncoder:
    return TextEncoder.load(checkpoint.folder, checkpoint.vocabulary, tokenizer)


def pick_device(device: str) -> torch.device:
    """A device of this machine; `auto` is CUDA if there is one."""
    device = resolve_device(device, torch.cuda.is_available())
    try:
        chosen = torch.device(device)
    except RuntimeError as error:
        raise ConfigError(f"unknown device {device!r}: use auto, cpu, cuda or cuda:N") from error
    if chosen.type not in DEFAULT_SLOTS:
        raise ConfigError(f"device {device!r} is not supported: use auto, cpu, cuda or cuda:N")
    if chosen.type == "cuda" and not torch.cuda.is_available():
        raise ConfigError(f"device {device!r}: this machine has no usable CUDA device; use cpu")
    return chosen


def pick_dtype(dtype: str, device: torch.device) -> torch.dtype:
    """`auto` is float32 on a CPU and bfloat16 on CUDA."""
    dtypes = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
    name = resolve_dtype(dtype, device.type)
    if name not in dtypes:
        raise ConfigError(f"unknown dtype {dtype!r}: use auto, {', '.join(dtypes)}")
    return dtypes[name]


def pick_slots(slots: int | None, device: torch.device) -> int:
    """The number of slots as asked, else the device's default."""
    if slots is None:
        return DEFAULT_SLOTS[device.type]
    if not is_good_slots(slots):
        raise ConfigError(f"slots must be 1 to 4 or a multiple of 4, is {slots}")
    return slots
