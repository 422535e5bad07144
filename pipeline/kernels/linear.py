"""Linear layers and tables; a linear layer's weight can be laid out for the machine."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pipeline.kernels.autotune import KernelConfig
from pipeline.kernels.matmul_backends import MATMUL_BACKENDS, MatMul
from pipeline.kernels.memory import release_mapped_pages

FEW_ROWS = 64  # a decode step has at most so many rows; a prompt or a window of frames has more


class Embedding(nn.Module):
    """A weight (rows, width) to look up rows in or to multiply with. Not torch's Embedding: that one draws random
    numbers for weights that are about to be loaded."""

    def __init__(self, rows: int, width: int):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(rows, width))

    def forward(self, ids: Tensor) -> Tensor:
        return F.embedding(ids, self.weight)


class Linear(nn.Module):
    """y = x W^T + b, in whatever layout `pack_weights` has put W."""

    def __init__(self, width_in: int, width_out: int, bias: bool):
        super().__init__()
        self.width_in = width_in
        self.weight = nn.Parameter(torch.empty(width_out, width_in))
        self.bias = nn.Parameter(torch.zeros(width_out)) if bias else None
        self._few: MatMul | None = None
        self._many: MatMul | None = None

    def forward(self, x: Tensor) -> Tensor:
        product = self._few if x.numel() <= FEW_ROWS * x.shape[-1] else self._many
        return product(x) if product else F.linear(x, self.weight, self.bias)

    def pack_weights(self, kernels: KernelConfig) -> None:
        """Once, after loading. A weight that no product reads any more is let go."""
        made = {
            name: MATMUL_BACKENDS[name](self.weight, self.bias)
            for name in {kernels.decode, kernels.prefill} - {"plain"}
        }
        self._few, self._many = made.get(kernels.decode), made.get(kernels.prefill)
        if self._few and self._many:
            release_mapped_pages(self.weight)
            self.weight = nn.Parameter(torch.empty(0), requires_grad=False)


def pack_weights(model: nn.Module, kernels: KernelConfig) -> None:
    """Put all linear layers of a model into a layout."""
    for module in model.modules():
        if isinstance(module, Linear):
            module.pack_weights(kernels)
