"""What a stage's work is in floating-point operations and bytes: the arithmetic behind "share of the ceiling".

Letters as in spec.py. 2 operations per multiply-add; norms, activations, embeddings and draws are not counted.
"""

from dataclasses import dataclass

from pipeline import spec
from pipeline.model.gpt import GPTConfig


@dataclass(frozen=True)
class OperationCount:
    """Operations in products with many rows (prompts, windows), with few (decode steps), and cache bytes read."""

    many_flops: float = 0
    few_flops: float = 0
    read_bytes: float = 0

    def __add__(self, other: "OperationCount") -> "OperationCount":
        return OperationCount(
            self.many_flops + other.many_flops, self.few_flops + other.few_flops, self.read_bytes + other.read_bytes
        )

    @property
    def flops(self) -> float:
        return self.many_flops + self.few_flops


def layer_flops(config: GPTConfig) -> float:
    """One position through one layer's four products: 12 C^2 multiply-adds."""
    return 24 * config.n_embd**2


def prompt(config: GPTConfig, P: int, V: int) -> OperationCount:
    """One prefill: the last layer makes keys and values for all positions, everything else for the last one only."""
    C, L = config.n_embd, config.n_layer
    products = layer_flops(config) * P * (L - 1) + 6 * C**2 * P + 18 * C**2
    attention = 2 * C * P**2 * (L - 1) + 4 * C * P  # causal: half the pairs
    return OperationCount(many_flops=products + attention + 2 * C * V)


def steps(config: GPTConfig, num_steps: int, slots: int, positions_read: int, V: int, itemsize: int) -> OperationCount:
    """Decode steps: all slots are computed, busy or not; `positions_read` is the sum over busy slots of positions."""
    C, L = config.n_embd, config.n_layer
    each = layer_flops(config) * L + 2 * C * V
    return OperationCount(few_flops=num_steps * slots * each, read_bytes=positions_read * 2 * C * L * itemsize)


def fine_window(config: GPTConfig) -> OperationCount:
    """One window: six codebooks, each a pass over all 1024 frames."""
    C, L, T = config.n_embd, config.n_layer, spec.FINE_WINDOW
    one = layer_flops(config) * L * T + 4 * C * T**2 * L + 2 * C * spec.CODEBOOK_SIZE * T
    return OperationCount(many_flops=one * (spec.NUM_CODEBOOKS - spec.NUM_COARSE_CODEBOOKS))
