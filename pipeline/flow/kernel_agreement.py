"""All actors on the same kind of processor use the same kernels: those that the first of them measured as fastest.

The choice is stored with the run. Other kernels may change a number's low bits and so, rarely, a sampled token, so a
retry or a resume must not measure again and choose others.
"""

import json
import platform
import re
import zlib
from dataclasses import asdict

import torch

from pipeline.bark.build import Autotuner, autotune_once
from pipeline.errors import ConfigError, one_line
from pipeline.kernels.attention_backends import ATTENTION_BACKENDS
from pipeline.kernels.autotune import KernelConfig
from pipeline.kernels.matmul_backends import MATMUL_BACKENDS
from pipeline.kernels.openmp import torch_openmp
from pipeline.kernels.processor import cpu_fields, instruction_sets, processor_name
from pipeline.kernels.reference import VARIABLE, use_reference
from pipeline.storage.store import Store

FOLDER = "_plan/layouts"  # as release 0.1.0 named it
STORED_KEYS = {"decode": "few", "prefill": "many"}  # release 0.1.0's keys of two fields of KernelConfig
FIELDS = {key: field for field, key in STORED_KEYS.items()}


def agreed(store: Store, writes: bool = True) -> Autotuner:
    """An autotuner that measures once for each kind of processor in a run; the first actor to write its choice decides.

    Args:
        writes: False leaves the output as it is: a choice that it does not have is made for this process alone.

    Raises:
        ConfigError: the stored choice can't be read, or this actor can't run those kernels.
    """

    def autotuner(slots: int, width: int, dtype: torch.dtype, quantize: str | None) -> KernelConfig:
        names = file_names(slots, width, dtype, quantize)
        name = next((each for each in names if store.exists(each)), None)
        if name is None:
            name = names[0]
            kernels = autotune_once(slots, width, dtype, quantize)
            content = {STORED_KEYS.get(field, field): backend for field, backend in asdict(kernels).items()}
            content |= {"reference": True} if use_reference() else {}
            if not writes or store.create(name, json.dumps(content).encode()):
                return kernels
        return usable(store, name, dtype)

    return autotuner


def file_names(slots: int, width: int, dtype: torch.dtype, quantize: str | None) -> list[str]:
    """Where a choice for this processor and these shapes may be stored."""
    return [f"{FOLDER}/{kind(name, slots, width, quantize or str(dtype))}.json" for name in processor_names()]


def usable(store: Store, name: str, dtype: torch.dtype) -> KernelConfig:
    """A stored choice that this process can run; raises ConfigError if it can't."""
    kernels, is_reference = read(store, name)
    missing = kernels.unavailable(dtype)
    if is_reference != use_reference():
        missing.append(f"{VARIABLE}: {'reference' if is_reference else 'not set'}")
    if missing:
        raise ConfigError(
            f"{store.path(name)}: the actors of this run use kernels that this one can't run on {node()}: "
            f"{', '.join(missing)}; give all nodes the same torch and the same environment variables, or use a new "
            "output folder"
        )
    return kernels


def node() -> str:
    """This machine's name and what decides which kernels it can run, for error messages."""
    openmp = "with" if torch_openmp() else "without"
    reference = f", {VARIABLE}=reference" if use_reference() else ""
    return f"{platform.node()} ({processor_name()}, torch {torch.__version__} {openmp} GNU OpenMP{reference})"


def check(store: Store) -> None:
    """Check the environment variable and all stored choices of a run, before anything starts.

    The driver may run on another kind of machine than the actors, so whether it could run the kernels is not checked.

    Raises:
        ConfigError: BARKERY_KERNELS has an unknown value, or a stored choice is damaged or names unknown kernels.
    """
    use_reference()
    for name in store.names(FOLDER):
        read(store, f"{FOLDER}/{name}")


def read(store: Store, name: str) -> tuple[KernelConfig, bool]:
    """Read one stored choice: the kernels, and whether they are those of the reference path.

    Raises:
        ConfigError: it is damaged or names unknown kernels.
    """
    try:
        content = json.loads(store.get(name))
        if not isinstance(content, dict):
            raise ValueError("must be a JSON object")
        is_reference = content.pop("reference", False) is True
        kernels = KernelConfig(**{str(FIELDS.get(key, key)): backend for key, backend in content.items()})
        if not (
            kernels.decode in MATMUL_BACKENDS
            and kernels.prefill in MATMUL_BACKENDS
            and kernels.attend in ATTENTION_BACKENDS
        ):
            raise ValueError(f"{kernels} is not known")
    except (TypeError, ValueError) as error:
        raise ConfigError(
            f"{store.path(name)}: damaged, or of another version: {one_line(error)}; use a new output folder, or "
            "delete this file: rows that are still missing may then differ in low bits from those that are committed"
        ) from error
    return kernels, is_reference


def kind(processor: str, slots: int, width: int, numbers: str) -> str:
    """What decides low bits besides the kernels, as a file name: the processor, the instruction set that torch uses,
    number type, shapes, threads."""
    parts = (processor, torch.backends.cpu.get_cpu_capability(), numbers.removeprefix("torch."), f"{width} wide")
    text = " ".join((*parts, f"{torch.get_num_threads()} threads", f"{slots} slots"))
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")


def processor_names() -> tuple[str, str]:
    """This processor's name, with family, model and a hash of its instruction sets, and its name in files of release
    0.1.0, which processors of one vendor may share."""
    features = zlib.crc32(" ".join(instruction_sets()).encode())
    return f"{processor_name()} features {features:x}", cpu_fields().get("model name", "cpu")
