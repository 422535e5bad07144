"""Linear layers, whose weights can be packed for a matmul backend, and embeddings."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pipeline.kernels.autotune import KernelConfig
from pipeline.kernels.matmul_backends import MATMUL_BACKENDS, MatMul
from pipeline.kernels.memory import release_mapped_pages

MAX_DECODE_ROWS = 64  # a decode step has at most this many rows; a prompt or a window of frames has more


class Embedding(nn.Module):
    """A weight (rows, width) to look up rows in or to multiply with. Unlike torch's Embedding it doesn't draw random
    numbers for weights that are about to be loaded."""

    def __init__(self, rows: int, width: int):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(rows, width))

    def forward(self, ids: Tensor) -> Tensor:
        return F.embedding(ids, self.weight)


class Linear(nn.Module):
    """y = x W^T + b, by the backends that `pack_weights` has chosen, else by torch's own product."""

    def __init__(self, width_in: int, width_out: int, bias: bool):
        super().__init__()
        self.width_in = width_in
        self.weight = nn.Parameter(torch.empty(width_out, width_in))
        self.bias = nn.Parameter(torch.zeros(width_out)) if bias else None
        self._decode_matmul: MatMul | None = None
        self._prefill_matmul: MatMul | None = None

    def forward(self, x: Tensor) -> Tensor:
        is_decode = x.numel() <= MAX_DECODE_ROWS * x.shape[-1]
        matmul = self._decode_matmul if is_decode else self._prefill_matmul
        return matmul(x) if matmul else F.linear(x, self.weight, self.bias)

    def pack_weights(self, kernels: KernelConfig) -> None:
        """Pack the weight for both backends; call it once, after loading. The plain weight is released if neither
        backend reads it."""
        packed = {
            name: MATMUL_BACKENDS[name](self.weight, self.bias)
            for name in {kernels.decode, kernels.prefill} - {"plain"}
        }
        self._decode_matmul, self._prefill_matmul = packed.get(kernels.decode), packed.get(kernels.prefill)
        if self._decode_matmul and self._prefill_matmul:
            release_mapped_pages(self.weight)
            self.weight = nn.Parameter(torch.empty(0), requires_grad=False)


def pack_weights(model: nn.Module, kernels: KernelConfig) -> None:
    """Pack the weights of all linear layers of a model."""
    for module in model.modules():
        if isinstance(module, Linear):
            module.pack_weights(kernels)
