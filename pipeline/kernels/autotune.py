"""Chooses the kernels for a model's arithmetic on this machine by measuring them."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch

from pipeline.errors import ConfigError
from pipeline.kernels.attention_backends import ATTENTION_BACKENDS, attention_available
from pipeline.kernels.matmul_backends import MATMUL_BACKENDS, matmul_available
from pipeline.kernels.reference import VARIABLE, use_reference
from pipeline.spec import HEAD_WIDTH

MIN_SPEEDUP = 1.1  # another backend must be this much faster, so that two measurements of one machine agree
PREFILL_ROWS = 1000  # about the frames of a window
PROMPT_LEN = 887  # positions of a coarse prompt


@dataclass(frozen=True)
class KernelConfig:
    """Backends by name: of matrix products with few rows (`decode`: decode steps) and with many (`prefill`: prompts
    and windows), in `MATMUL_BACKENDS`, and of attention with many queries (`attend`), in `ATTENTION_BACKENDS`."""

    decode: str = "plain"
    prefill: str = "plain"
    attend: str = "plain"

    @property
    def cache_dtype(self) -> torch.dtype | None:
        """Of cached keys and values: bfloat16, half the bytes, where products are rounded anyway; None: the weights'
        own."""
        return torch.bfloat16 if "int8" in self.decode else None

    def unavailable(self, dtype: torch.dtype) -> list[str]:
        """The backends that this process can't use for this dtype on the CPU, as `field: name`."""
        missing = [
            f"{field}: {name}"
            for field, name in (("decode", self.decode), ("prefill", self.prefill))
            if not matmul_available(name)
        ]
        return missing if attention_available(self.attend, dtype) else [*missing, f"attend: {self.attend}"]


PLAIN_KERNELS, INT8_KERNELS = KernelConfig(), KernelConfig("int8", "int8")


def require_int8(device: torch.device, dtype: torch.dtype) -> None:
    """Check that int8 weights can be used.

    Raises:
        ConfigError: they can't; says what they need.
    """
    if use_reference():
        raise ConfigError(f"quantize: int8 needs private operators of torch, which {VARIABLE}=reference turns off")
    if device.type != "cpu" or not matmul_available("int8"):
        raise ConfigError("quantize: int8 needs an x86 CPU and torch with fbgemm; use dtype bfloat16 on a GPU")
    if dtype != torch.float32:
        raise ConfigError("quantize: int8 goes with dtype float32: activations between the products stay exact")


@torch.inference_mode()
def autotune(slots: int, width: int, dtype: torch.dtype, quantize: str | None) -> KernelConfig:
    """Measure the backends on this CPU with torch's current threads, for half a second, and return the fastest.

    All candidates are exact unless `quantize` is int8. The product measured is the transformers' widest, with `slots`
    rows and with PREFILL_ROWS. The first backend of each list is taken unless another is clearly faster.
    """
    if use_reference():
        return PLAIN_KERNELS
    names = ("int8", "onednn_int8") if quantize else ("onednn", "plain")
    weight = torch.randn(4 * width, width, dtype=dtype)
    matmuls = {name: MATMUL_BACKENDS[name](weight, None) for name in names if matmul_available(name)}
    decode, prefill = (torch.randn(rows, width, dtype=dtype) for rows in (slots, PREFILL_ROWS))
    attentions = {name: function for name, function in ATTENTION_BACKENDS.items() if attention_available(name, dtype)}
    q, k, v = (torch.randn(1, max(1, width // HEAD_WIDTH), PROMPT_LEN, HEAD_WIDTH, dtype=dtype) for _ in range(3))
    return KernelConfig(
        decode=pick_fastest({name: partial(matmul, decode) for name, matmul in matmuls.items()}, 20),
        prefill=pick_fastest({name: partial(matmul, prefill) for name, matmul in matmuls.items()}, 5),
        attend=pick_fastest({name: partial(attend, q, k, v, True) for name, attend in attentions.items()}, 5),
    )


def pick_fastest(candidates: dict[str, Callable[[], object]], rounds: int) -> str:
    """The name of the first candidate, or of another that is clearly faster. They are measured in turns."""
    if len(candidates) == 1:
        return next(iter(candidates))
    times: dict[str, list[float]] = {name: [] for name in candidates}
    for _ in range(rounds):
        for name, candidate in candidates.items():
            times[name].append(seconds(candidate))
    best = {name: min(each) for name, each in times.items()}
    return next(name for name in candidates if best[name] < MIN_SPEEDUP * min(best.values()))


def seconds(call: Callable[[], object]) -> float:
    """How long a call takes."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start
