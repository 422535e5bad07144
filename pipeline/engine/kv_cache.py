"""Keys and values of all slots, preallocated: memory is fixed at start-up, nothing is concatenated."""

import torch
from torch import Tensor
from torch.nn import functional as F


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
        shape = (slots, n_head, positions, head_width)
        self.slots = slots
        self.positions = positions
        self.k = [torch.zeros(shape, dtype=dtype, device=device) for _ in range(n_layer)]
        self.v = [torch.zeros(shape, dtype=dtype, device=device) for _ in range(n_layer)]
        self._rows = torch.arange(slots, device=device)
        self._positions = torch.zeros(slots, dtype=torch.int64, device=device)
        self._lengths: list[int] = []  # CPU: of each slot's filled part
        self._filled = torch.empty(0)  # else: (S, 1, 1, T), true where a slot is filled

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
            self._lengths = [p + 1 if p else 0 for p in positions.tolist()]
        else:
            self._filled = (torch.arange(self.positions, device=positions.device) <= positions[:, None])[:, None, None]

    def append(self, layer: int, k: Tensor, v: Tensor) -> None:
        """k, v (S, H, D): this step's position of every slot."""
        self.k[layer][self._rows, :, self._positions] = k
        self.v[layer][self._rows, :, self._positions] = v

    def attend(self, layer: int, q: Tensor) -> Tensor:
        """q (S, H, 1, D) over each slot's own filled part -> (S, H, 1, D).

        On a CPU slot by slot: that reads what is filled, at the memory's speed, and a row can't feel its neighbours'
        lengths. On a GPU all positions of all slots, masked: shapes are the same in every step, as a graph needs.
        """
        k, v = self.k[layer], self.v[layer]
        if q.device.type != "cpu":
            return F.scaled_dot_product_attention(q, k, v, attn_mask=self._filled)
        out = torch.zeros_like(q)
        for s, n in enumerate(self._lengths):
            if n:
                row = slice(s, s + 1)
                out[row] = F.scaled_dot_product_attention(q[row], k[row, :, :n], v[row, :, :n])
        return out
