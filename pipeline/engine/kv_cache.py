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

    def write_prompt(self, layer: int, slot: int, k: Tensor, v: Tensor) -> None:
        """k, v (H, P, D): the first P positions of one slot."""
        P = k.shape[1]
        self.k[layer][slot, :, :P] = k
        self.v[layer][slot, :, :P] = v

    def append(self, layer: int, positions: Tensor, k: Tensor, v: Tensor) -> None:
        """k, v (S, H, D): one position of every slot. An idle slot writes to position 0, which a prompt overwrites."""
        self.k[layer][self._rows, :, positions] = k
        self.v[layer][self._rows, :, positions] = v

    def attend(self, layer: int, q: Tensor, lengths: list[int]) -> Tensor:
        """q (S, H, 1, D) over each slot's own filled part -> (S, H, 1, D); `lengths` 0 is an idle slot, left at 0."""
        k, v = self.k[layer], self.v[layer]
        if q.device.type == "cpu":  # slot by slot: reads what is filled, and a row can't feel its neighbours' lengths
            out = torch.zeros_like(q)
            for s, n in enumerate(lengths):
                if n:
                    row = slice(s, s + 1)
                    out[row] = F.scaled_dot_product_attention(q[row], k[row, :, :n], v[row, :, :n])
            return out
        filled = torch.arange(self.positions, device=q.device) < torch.tensor(lengths, device=q.device)[:, None]
        filled[:, 0] = True  # an idle slot attends to something: no row of infinities
        return F.scaled_dot_product_attention(q, k, v, attn_mask=filled[:, None, None])
