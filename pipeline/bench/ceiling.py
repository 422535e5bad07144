"""What this machine can do at all, measured in the same run: products at the real shapes, and reading memory."""

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

from pipeline.bench.work import OperationCount
from pipeline.kernels.linear import Linear
from pipeline.model.gpt import GPT

MANY_ROWS = 1000
BUFFER_BYTES = 256 << 20  # larger than any cache


@dataclass(frozen=True)
class Ceiling:
    """Rates that nothing on this machine, in this layout, with these threads, exceeds."""

    few_flops: float  # FLOP/s with one row per slot
    many_flops: float  # FLOP/s with a thousand rows
    read_bytes: float  # bytes/s

    def seconds(self, work: OperationCount) -> float:
        """The floor: the work at the ceiling, one part after another."""
        return work.many_flops / self.many_flops + work.few_flops / self.few_flops + work.read_bytes / self.read_bytes


@torch.inference_mode()
def measure(model: GPT, slots: int) -> Ceiling:
    """All linear layers of a transformer one after another, so that weights come from memory as in a real step."""
    layers = [m for m in model.modules() if isinstance(m, Linear)]
    weight = model.wpe.weight  # tells the device and dtype
    flops_per_row = 24 * model.config.n_embd**2 * model.config.n_layer

    def rate(rows: int, rounds: int) -> float:
        inputs = {layer.width_in: weight.new_empty(rows, layer.width_in).normal_() for layer in layers}
        return rows * flops_per_row / best(lambda: [layer(inputs[layer.width_in]) for layer in layers], rounds, weight)

    buffer = torch.ones(BUFFER_BYTES // 4, device=weight.device)
    read_bytes = BUFFER_BYTES / best(buffer.sum, 5, weight)
    return Ceiling(rate(slots, 10), rate(MANY_ROWS, 3), read_bytes)


def best(call: Callable[[], object], rounds: int, like: torch.Tensor) -> float:
    """Seconds of the fastest call after one to warm up."""

    def seconds() -> float:
        start = time.perf_counter()
        call()
        if like.is_cuda:
            torch.cuda.synchronize()
        return time.perf_counter() - start

    seconds()
    return min(seconds() for _ in range(rounds))
