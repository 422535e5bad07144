"""Keys and values of all slots, preallocated: memory is fixed at start-up, nothing is concatenated."""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from pipeline.kernels.memory import anonymous_tensor
from pipeline.kernels.reference import use_reference

KERNEL_DTYPES = (torch.float32, torch.bfloat16)  # that the CPU kernel reads


class KVCache:
    """(slots, H, T, D) keys and values for each layer."""

    def __init__(
        self,
        *,
        n_layer: int,
        n_head: int,
        head_width: int,
        slots: int,
        positions: int,
        dtype: torch.dtype,
        device: torch.device,
    ):
        self.slots = slots
        self.positions = positions
        self._shape = (slots, n_head, positions, head_width)
        self._dtype, self._device = dtype, device
        self.k, self.v = ([self._new() for _ in range(n_layer)] for _ in range(2))
        self._rows = torch.arange(slots, device=device)
        self._positions = torch.zeros(slots, dtype=torch.int64, device=device)
        self._lengths = np.zeros(slots, np.int64)  # CPU: filled positions of each slot
        has_kernel = device.type == "cpu" and dtype in KERNEL_DTYPES and not use_reference()
        self._attend_filled = cpu_attention() if has_kernel else None
        self._filled = torch.empty(0)  # GPU: (S, 1, 1, T), true at filled positions

    def _new(self) -> Tensor:
        """One layer's keys or values. On a CPU an anonymous mapping: untouched pages cost nothing, freed pages return
        to the OS at once, and only filled positions are ever read. On a GPU masked positions are multiplied by zero,
        so they must be finite."""
        if self._device.type == "cpu":
            return anonymous_tensor(self._shape, self._dtype)
        return torch.zeros(self._shape, dtype=self._dtype, device=self._device)

    def release(self) -> None:
        """Return the memory to the system, on a CPU, so that stages that take turns in one process don't use it twice.
        No slot may be busy."""
        if self._device.type == "cpu":
            for layers in (self.k, self.v):
                layers[:] = [self._new() for _ in layers]

    @property
    def itemsize(self) -> int:
        """Bytes of one number."""
        return self._dtype.itemsize

    @property
    def bytes_per_slot(self) -> int:
        return sum(t[0].nbytes for t in (*self.k, *self.v))

    def write_prompt(self, layer: int, slot: int, k: Tensor, v: Tensor) -> None:
        """Fill the first P positions of one slot; k, v (H, P, D)."""
        P = k.shape[1]
        self.k[layer][slot, :, :P] = k
        self.v[layer][slot, :, :P] = v

    def begin(self, positions: Tensor) -> None:
        """Start a decode step; positions (S,) is each slot's next position. 0 marks an idle slot: what the step writes
        there is overwritten by the next prompt."""
        self._positions = positions
        if positions.device.type == "cpu":
            next_positions = positions.numpy()
            self._lengths = np.where(next_positions > 0, next_positions + 1, 0)
        else:
            self._filled = (torch.arange(self.positions, device=positions.device) <= positions[:, None])[:, None, None]

    def attend(self, layer: int, qkv: Tensor) -> Tensor:
        """Write the step's keys and values and attend: qkv (S, 3 * H * D) of every slot -> (S, H * D).

        Each query sees the filled positions of its own slot. On a CPU only those are read, and a row doesn't depend on
        the other slots' lengths. On a GPU all positions of all slots are read and masked: a CUDA graph needs the same
        shapes in every step.
        """
        if self._attend_filled:
            return self._attend_filled(qkv, self.k[layer], self.v[layer], self._lengths)
        S, H, _, D = self._shape
        q, k, v = qkv.view(S, 3, H, D).unbind(1)
        keys, values, q = self.k[layer], self.v[layer], q[:, :, None]
        keys[self._rows, :, self._positions] = k
        values[self._rows, :, self._positions] = v
        if qkv.device.type != "cpu":
            return F.scaled_dot_product_attention(q, keys, values, attn_mask=self._filled).reshape(S, H * D)
        out = torch.zeros(S, H * D, dtype=qkv.dtype)
        for s, n in enumerate(self._lengths):
            if n:
                row = slice(s, s + 1)
                out[s] = F.scaled_dot_product_attention(q[row], keys[row, :, :n], values[row, :, :n]).reshape(-1)
        return out


def cpu_attention() -> Callable[[Tensor, Tensor, Tensor, np.ndarray], Tensor]:
    """The CPU kernel. Imported here: numba takes time and 57 MiB, which the driver and half of the actors can save."""
    from pipeline.kernels.decode_attention import CPUAttention

    return CPUAttention()
