"""How a model's arithmetic is laid out on this machine: the fastest way is measured, not guessed."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch

from pipeline.errors import ConfigError
from pipeline.kernels.attention_backends import ATTENTION_BACKENDS, attention_available
from pipeline.kernels.matmul_backends import MATMUL_BACKENDS, matmul_available

WORTHWHILE = 1.1  # another way must be this much faster: two measurements of one machine should agree
MANY_ROWS, LONG_PROMPT = 1000, 887  # a window of frames, about; a prompt of the coarse stage
HEAD_WIDTH = 64  # in both published sizes


@dataclass(frozen=True)
class KernelConfig:
    """How products are computed with few rows (decode steps) and with many (prompts, windows), and how the queries of
    many rows attend. Names as in `products` and `attend`."""

    decode: str = "plain"
    prefill: str = "plain"
    attend: str = "plain"

    @property
    def cache_dtype(self) -> torch.dtype | None:
        """Of kept keys and values: half the bytes where products are rounded anyway; None: as the weights."""
        return torch.bfloat16 if "int8" in self.decode else None


PLAIN_KERNELS, INT8_KERNELS = KernelConfig(), KernelConfig("int8", "int8")


def require_int8(device: torch.device, dtype: torch.dtype) -> None:
    """
    Raises:
        ConfigError: int8 weights are not possible there.
    """
    if device.type != "cpu" or not matmul_available("int8"):
        raise ConfigError("quantize: int8 needs an x86 CPU and torch with fbgemm; use dtype bfloat16 on a GPU")
    if dtype != torch.float32:
        raise ConfigError("quantize: int8 goes with dtype float32: activations between the products stay exact")


@torch.inference_mode()
def autotune(slots: int, width: int, dtype: torch.dtype, quantize: str | None) -> KernelConfig:
    """The fastest layout on this CPU with torch's current threads, exact unless `quantize` is int8: half a second of
    trying.

    The product tried is the transformers' widest, with `slots` rows and with a thousand. The first way of each list
    is taken unless another is clearly faster.
    """
    names = ("int8", "onednn_int8") if quantize else ("onednn", "plain")
    weight = torch.randn(4 * width, width, dtype=dtype)
    products = {name: MATMUL_BACKENDS[name](weight, None) for name in names if matmul_available(name)}
    decode, prefill = (torch.randn(rows, width, dtype=dtype) for rows in (slots, MANY_ROWS))
    ways = {name: way for name, way in ATTENTION_BACKENDS.items() if attention_available(name, dtype)}
    q, k, v = (torch.randn(1, max(1, width // HEAD_WIDTH), LONG_PROMPT, HEAD_WIDTH, dtype=dtype) for _ in range(3))
    return KernelConfig(
        decode=pick_fastest({name: partial(product, decode) for name, product in products.items()}, 20),
        prefill=pick_fastest({name: partial(product, prefill) for name, product in products.items()}, 5),
        attend=pick_fastest({name: partial(attend, q, k, v, True) for name, attend in ways.items()}, 5),
    )


def pick_fastest(ways: dict[str, Callable[[], object]], rounds: int) -> str:
    """The first way, or another that is clearly faster; they take turns."""
    if len(ways) == 1:
        return next(iter(ways))
    taken: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, way in ways.items():
            taken[name].append(seconds(way))
    best = {name: min(each) for name, each in taken.items()}
    return next(name for name in ways if best[name] < WORTHWHILE * min(best.values()))


def seconds(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start
