"""Counts the floating-point operations and cache bytes of a stage, for its share of the ceiling.

Letters as in spec.py. A multiply-add is 2 operations; norms, activations, embeddings and sampling are not counted.
"""

from dataclasses import dataclass

from pipeline import spec
from pipeline.model.gpt import GPTConfig


@dataclass(frozen=True)
class OperationCount:
    """Operations of prefills (prompts and windows: products with many rows) and of decode steps (few rows), and the
    bytes of the KV cache that are read."""

    prefill_flops: float = 0
    decode_flops: float = 0
    read_bytes: float = 0

    def __add__(self, other: "OperationCount") -> "OperationCount":
        return OperationCount(
            self.prefill_flops + other.prefill_flops,
            self.decode_flops + other.decode_flops,
            self.read_bytes + other.read_bytes,
        )

    @property
    def flops(self) -> float:
        return self.prefill_flops + self.decode_flops


def layer_flops(config: GPTConfig) -> float:
    """One position in one layer's four products: 12 C^2 multiply-adds."""
    return 24 * config.n_embd**2


def prompt(config: GPTConfig, P: int, V: int) -> OperationCount:
    """One prefill. The last layer computes keys and values for all positions, everything else for the last one only."""
    C, L = config.n_embd, config.n_layer
    products = layer_flops(config) * P * (L - 1) + 6 * C**2 * P + 18 * C**2
    attention = 2 * C * P**2 * (L - 1) + 4 * C * P  # causal: half the pairs
    return OperationCount(prefill_flops=products + attention + 2 * C * V)


def steps(config: GPTConfig, num_steps: int, slots: int, positions_read: int, V: int, itemsize: int) -> OperationCount:
    """Decode steps, which compute all slots, busy or not; `positions_read` is the sum of the busy slots' positions."""
    C, L = config.n_embd, config.n_layer
    each = layer_flops(config) * L + 2 * C * V
    return OperationCount(decode_flops=num_steps * slots * each, read_bytes=positions_read * 2 * C * L * itemsize)


def fine_window(config: GPTConfig) -> OperationCount:
    """One window of the fine stage: six codebooks, each a pass over all 1024 frames."""
    C, L, T = config.n_embd, config.n_layer, spec.FINE_WINDOW
    one = layer_flops(config) * L * T + 4 * C * T**2 * L + 2 * C * spec.CODEBOOK_SIZE * T
    return OperationCount(prefill_flops=one * (spec.NUM_CODEBOOKS - spec.NUM_COARSE_CODEBOOKS))
