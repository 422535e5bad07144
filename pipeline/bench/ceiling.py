"""Measures the highest speeds of this machine: matrix products at the models' shapes, and reading memory."""

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

from pipeline.bench.operation_count import OperationCount
from pipeline.kernels.autotune import PREFILL_ROWS
from pipeline.kernels.linear import Linear
from pipeline.model.gpt import GPT

BUFFER_BYTES = 256 << 20  # larger than any cache


@dataclass(frozen=True)
class Ceiling:
    """The highest speeds of this machine with these kernels and threads."""

    decode_flops: float  # FLOP/s with one row per slot
    prefill_flops: float  # FLOP/s with PREFILL_ROWS rows
    read_bytes: float  # bytes/s

    def seconds(self, count: OperationCount) -> float:
        """The shortest possible time: all operations at these speeds, one kind after another."""
        prefill_s, decode_s = count.prefill_flops / self.prefill_flops, count.decode_flops / self.decode_flops
        return prefill_s + decode_s + count.read_bytes / self.read_bytes


@torch.inference_mode()
def measure(model: GPT, slots: int) -> Ceiling:
    """Measure a transformer's linear layers, one after another, so that weights come from memory as in a real step."""
    layers = [m for m in model.modules() if isinstance(m, Linear)]
    weight = model.wpe.weight  # for its device and dtype
    flops_per_row = 24 * model.config.n_embd**2 * model.config.n_layer

    def rate(rows: int, rounds: int) -> float:
        inputs = {layer.width_in: weight.new_empty(rows, layer.width_in).normal_() for layer in layers}
        return rows * flops_per_row / best(lambda: [layer(inputs[layer.width_in]) for layer in layers], rounds, weight)

    buffer = torch.ones(BUFFER_BYTES // 4, device=weight.device)
    read_bytes = BUFFER_BYTES / best(buffer.sum, 5, weight)
    return Ceiling(rate(slots, 10), rate(PREFILL_ROWS, 3), read_bytes)


def best(call: Callable[[], object], rounds: int, like: torch.Tensor) -> float:
    """Seconds of the fastest call, after one call to warm up."""

    def seconds() -> float:
        start = time.perf_counter()
        call()
        if like.is_cuda:
            torch.cuda.synchronize()
        return time.perf_counter() - start

    seconds()
    return min(seconds() for _ in range(rounds))
