"""All actors on one kind of processor compute in one layout: the first one's measurement, kept with the run.

Another layout may change a number's low bits and so, rarely, a drawn token: a retry or a resume must not measure
anew and come to another result.
"""

import json
import re
from dataclasses import asdict
from pathlib import Path

import torch

from pipeline.bark.build import Autotuner, autotune_once
from pipeline.errors import ConfigError, one_line
from pipeline.kernels.attention_backends import ATTENTION_BACKENDS
from pipeline.kernels.autotune import KernelConfig
from pipeline.kernels.matmul_backends import MATMUL_BACKENDS
from pipeline.storage.store import Store

FOLDER = "_plan/kernels"


def agreed(store: Store) -> Autotuner:
    """A measurement that is made once for each kind of processor in a run; who first writes it decides it."""

    def autotuner(slots: int, width: int, dtype: torch.dtype, quantize: str | None) -> KernelConfig:
        name = f"{FOLDER}/{kind(slots, width, quantize or str(dtype))}.json"
        if not store.exists(name):
            kernels = autotune_once(slots, width, dtype, quantize)
            if store.create(name, json.dumps(asdict(kernels)).encode()):
                return kernels
        return read(store, name)

    return autotuner


def check(store: Store) -> None:
    """
    Raises:
        ConfigError: a layout that this run has agreed on can't be used.
    """
    for name in store.names(FOLDER):
        read(store, f"{FOLDER}/{name}")


def read(store: Store, name: str) -> KernelConfig:
    """Raises ConfigError."""
    try:
        kernels = KernelConfig(**json.loads(store.get(name)))
        if not (
            kernels.decode in MATMUL_BACKENDS
            and kernels.prefill in MATMUL_BACKENDS
            and kernels.attend in ATTENTION_BACKENDS
        ):
            raise ValueError(f"{kernels} is not known")
    except (TypeError, ValueError) as error:
        raise ConfigError(
            f"{store.path(name)}: damaged, or of another version: {one_line(error)}; use a new output folder, or "
            "delete it: what is still missing may then differ in low bits from what is there"
        ) from error
    return kernels


def kind(slots: int, width: int, numbers: str) -> str:
    """What decides low bits besides the layout: the processor, what torch uses of it, the shapes, threads."""
    parts = (processor(), torch.backends.cpu.get_cpu_capability(), numbers.removeprefix("torch."), f"{width} wide")
    text = " ".join((*parts, f"{torch.get_num_threads()} threads", f"{slots} slots"))
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")


def processor() -> str:
    """The CPU's name where the system tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return "cpu"
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "cpu")
