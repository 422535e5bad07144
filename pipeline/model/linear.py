"""Linear layers whose weights are laid out for the machine. Which layout is fastest is measured, not guessed.

Three ways to multiply on a CPU: `plain` (torch's own), `onednn` (weights reordered once for oneDNN's kernels), and
`int8` (8-bit weights per output channel, activations quantized per row: not exact, never chosen by itself). On a GPU
everything is `plain`.
"""

import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pipeline.errors import ConfigError
from pipeline.model.memory import let_go

Product = Callable[[Tensor], Tensor]  # (..., in) -> (..., out)
FEW_ROWS = 64  # a decode step has at most so many rows; a prompt or a window of frames has more
WORTHWHILE = 1.1  # another layout must be this much faster: two measurements of one machine should agree


@dataclass(frozen=True)
class Layout:
    """How products are computed with few rows (decode steps) and with many (prompts, windows)."""

    few: str = "plain"
    many: str = "plain"


PLAIN = Layout()
INT8 = Layout("int8", "int8")


def onednn_product(weight: Tensor, bias: Tensor | None) -> Product:
    """Private operators of torch, as its own compiler uses them; `available` tells whether they are there."""
    packed = torch.ops.mkldnn._reorder_linear_weight(weight.detach().contiguous(), None)
    return lambda x: torch.ops.mkldnn._linear_pointwise(x, packed, bias, "none", [], "")


def int8_product(weight: Tensor, bias: Tensor | None) -> Product:
    """Symmetric int8 weights per output channel, 7-bit activations per row, int32 sums.

    Each row is scaled to [-1, 1] by itself before the fixed-scale product, so a row can't feel its neighbours, as it
    would with torch's dynamic quantization (one scale for the batch). 7 bits, because AVX2 adds pairs in 16 bits.
    """
    scale = weight.abs().amax(1).clamp_min(1e-12) / 127
    zero = torch.zeros(len(weight), dtype=torch.int64)
    with warnings.catch_warnings():  # quantized tensors are to go one day; `available` will tell
        warnings.simplefilter("ignore")
        quantized = torch.quantize_per_channel(weight.detach().float(), scale.double(), zero, 0, torch.qint8)
    packed = torch.ops.quantized.linear_prepack(quantized, None)
    multiply = torch.ops.quantized.linear_with_input_q_dq_qweight_dq_output_fp32

    def product(x: Tensor) -> Tensor:
        size = x.abs().amax(-1, keepdim=True).clamp_min_(1e-12)
        y = multiply(x / size, 1 / 63, 64, packed).mul_(size)
        return y if bias is None else y.add_(bias)

    return product


def plain_product(weight: Tensor, bias: Tensor | None) -> Product:
    return lambda x: F.linear(x, weight, bias)


PRODUCTS: dict[str, Callable[[Tensor, Tensor | None], Product]] = {
    "plain": plain_product,
    "onednn": onednn_product,
    "int8": int8_product,
}


def available(name: str) -> bool:
    """Whether this build of torch can compute that way: a product of ones is tried."""
    if name == "int8" and "fbgemm" not in torch.backends.quantized.supported_engines:
        return False
    try:
        PRODUCTS[name](torch.ones(4, 8), None)(torch.ones(1, 8))
    except (AttributeError, RuntimeError):
        return False
    return True


def require_int8(device: torch.device, dtype: torch.dtype) -> None:
    """
    Raises:
        ConfigError: int8 weights are not possible there.
    """
    if device.type != "cpu" or not available("int8"):
        raise ConfigError("quantize: int8 needs an x86 CPU and torch with fbgemm; use dtype bfloat16 on a GPU")
    if dtype != torch.float32:
        raise ConfigError("quantize: int8 goes with dtype float32: activations between the products stay exact")


class Table(nn.Module):
    """A weight (rows, width) to look up rows in or to multiply with. Not torch's Embedding: that one draws random
    numbers for weights that are about to be loaded."""

    def __init__(self, rows: int, width: int):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(rows, width))

    def forward(self, ids: Tensor) -> Tensor:
        return F.embedding(ids, self.weight)


class Linear(nn.Module):
    """y = x W^T + b, in whatever layout `lay_out` has put W."""

    def __init__(self, width_in: int, width_out: int, bias: bool):
        super().__init__()
        self.width_in = width_in
        self.weight = nn.Parameter(torch.empty(width_out, width_in))
        self.bias = nn.Parameter(torch.zeros(width_out)) if bias else None
        self._few: Product | None = None
        self._many: Product | None = None

    def forward(self, x: Tensor) -> Tensor:
        product = self._few if x.numel() <= FEW_ROWS * x.shape[-1] else self._many
        return product(x) if product else F.linear(x, self.weight, self.bias)

    def lay_out(self, layout: Layout) -> None:
        """Once, after loading. A weight that no product reads any more is let go."""
        made = {name: PRODUCTS[name](self.weight, self.bias) for name in {layout.few, layout.many} - {"plain"}}
        self._few, self._many = made.get(layout.few), made.get(layout.many)
        if self._few and self._many:
            let_go(self.weight)
            self.weight = nn.Parameter(torch.empty(0), requires_grad=False)


def lay_out(model: nn.Module, layout: Layout) -> None:
    """Put all linear layers of a model into a layout."""
    for module in model.modules():
        if isinstance(module, Linear):
            module.lay_out(layout)


def measure_layout(slots: int, width: int, dtype: torch.dtype) -> Layout:
    """The fastest exact layout on this CPU with torch's current threads: half a second of trying.

    The shape tried is the transformers' widest product, with `slots` rows and with a thousand.
    """
    names = [name for name in ("onednn", "plain") if available(name)]  # onednn unless plain is clearly faster
    weight = torch.randn(4 * width, width, dtype=dtype)
    products = {name: PRODUCTS[name](weight, None) for name in names}

    def fastest(rows: int, rounds: int) -> str:
        x = torch.randn(rows, width, dtype=dtype)
        best = {name: min(seconds(product, x) for _ in range(rounds)) for name, product in products.items()}
        return next((name for name in names if best[name] < WORTHWHILE * min(best.values())), names[0])

    with torch.inference_mode():
        return Layout(few=fastest(slots, 20), many=fastest(1000, 3))


def seconds(product: Product, x: Tensor) -> float:
    start = time.perf_counter()
    product(x)
    return time.perf_counter() - start
