"""One decode step of all slots: called directly, or replayed as a CUDA graph."""

from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor

from pipeline.engine.kv_cache import KVCache

Step = Callable[[list[int], list[int]], Tensor]  # token and position of every slot -> logits (S, V)


class CausalModel(Protocol):
    """The engine's interface to a transformer; implemented by `model/gpt.py`."""

    head_rows: tuple[int, int]
    merged_len: int

    def prefill(self, ids: Tensor, cache: KVCache, slot: int) -> Tensor: ...

    def decode(self, tokens: Tensor, positions: Tensor, cache: KVCache) -> Tensor: ...


def make_step(model: CausalModel, cache: KVCache, device: torch.device) -> Step:
    """The decode step as a function. On CUDA it is a graph, because launching hundreds of small kernels costs more than
    running them."""
    if device.type == "cuda":
        return GraphStep(model, cache, device)

    def eager(tokens: list[int], positions: list[int]) -> Tensor:
        inputs = torch.tensor([tokens, positions], device=device)
        return model.decode(inputs[0], inputs[1], cache)

    return eager


class GraphStep:
    """The decode step captured once as a CUDA graph. Shapes and addresses never change: idle slots are masked, the
    cache is preallocated."""

    WARM_UP = 3  # calls on a side stream before the capture, as torch demands: libraries allocate their workspaces

    def __init__(self, model: CausalModel, cache: KVCache, device: torch.device):
        self.model = model
        self.cache = cache
        self.pinned = torch.zeros((2, cache.slots), dtype=torch.int64, pin_memory=True)
        self.inputs = torch.zeros((2, cache.slots), dtype=torch.int64, device=device)
        self.graph, self.logits = self._capture()

    def _capture(self) -> tuple[torch.cuda.CUDAGraph, Tensor]:
        """Warm up and capture with idle slots: only position 0 of empty slots is written."""
        with torch.inference_mode():
            side = torch.cuda.Stream()
            side.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(side):
                for _ in range(self.WARM_UP):
                    self.model.decode(self.inputs[0], self.inputs[1], self.cache)
            torch.cuda.current_stream().wait_stream(side)
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph):
                logits = self.model.decode(self.inputs[0], self.inputs[1], self.cache)
        return graph, logits

    def __call__(self, tokens: list[int], positions: list[int]) -> Tensor:
        # The last step's sample has been copied to the host, so the device no longer reads the pinned buffer.
        self.pinned.copy_(torch.tensor([tokens, positions]))
        self.inputs.copy_(self.pinned, non_blocking=True)
        self.graph.replay()
        return self.logits
