"""Keys and values of all slots, preallocated: memory is fixed at start-up, nothing is concatenated."""

import math
import mmap
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

OURS = (torch.float32, torch.bfloat16)  # what our own attention reads on a CPU


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
        self._lengths = np.zeros(slots, np.int64)  # CPU: of each slot's filled part
        self._attend_filled = cpu_attention() if device.type == "cpu" and dtype in OURS else None
        self._filled = torch.empty(0)  # else: (S, 1, 1, T), true where a slot is filled

    def _new(self) -> Tensor:
        """On a CPU straight from the system: what was never touched costs nothing, and what is let go goes back, which
        the C library's memory does not (model/memory.py). Only what was written is ever read there; elsewhere masked
        positions are multiplied by zero and must be finite."""
        if self._device.type != "cpu":
            return torch.zeros(self._shape, dtype=self._dtype, device=self._device)
        num_bytes = math.prod(self._shape) * self._dtype.itemsize
        pages = mmap.mmap(-1, num_bytes, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        return torch.frombuffer(pages, dtype=self._dtype).view(self._shape)

    def release(self) -> None:
        """No slot is busy: give memory back, so that stages that take turns in one process don't hold it twice."""
        if self._device.type == "cpu":
            for held in (self.k, self.v):
                held[:] = [self._new() for _ in held]

    @property
    def itemsize(self) -> int:
        """Bytes of one number."""
        return self._dtype.itemsize

    @property
    def bytes_per_slot(self) -> int:
        return sum(t[0].nbytes for t in (*self.k, *self.v))

    def write_prompt(self, layer: int, slot: int, k: Tensor, v: Tensor) -> None:
        """k, v (H, P, D): the first P positions of one slot."""
        P = k.shape[1]
        self.k[layer][slot, :, :P] = k
        self.v[layer][slot, :, :P] = v

    def begin(self, positions: Tensor) -> None:
        """A step: every slot's next position (S,). 0 is an idle slot: what it writes there, a prompt overwrites."""
        self._positions = positions
        if positions.device.type == "cpu":
            held = positions.numpy()
            self._lengths = np.where(held > 0, held + 1, 0)
        else:
            self._filled = (torch.arange(self.positions, device=positions.device) <= positions[:, None])[:, None, None]

    def attend(self, layer: int, qkv: Tensor) -> Tensor:
        """A step's queries, keys and values of every slot (S, 3 · H · D): the keys and values take their positions, the
        queries look at each slot's own filled part -> (S, H · D).

        On a CPU only what is filled is read, and a row can't feel its neighbours' lengths. On a GPU all positions of
        all slots, masked: shapes are the same in every step, as a graph needs.
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
    """Imported here: numba takes 57 MiB and a moment, and the driver and half of the actors never attend."""
    from pipeline.kernels.decode_attention import CPUAttention

    return CPUAttention()
