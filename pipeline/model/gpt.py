"""The causal transformer of the semantic and coarse stages: prefill one prompt, decode one token in every slot.

It works on token ids, positions and a cache that is an argument, and knows nothing of text, voices or stages.
Source: suno-ai/bark `model.py` (nanoGPT: pre-norm, fused qkv, exact GELU, learned positions).
"""

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pipeline.kernels.attention_backends import ATTENTION_BACKENDS
from pipeline.kernels.autotune import KernelConfig
from pipeline.kernels.linear import Embedding, Linear, pack_weights
from pipeline.kernels.matmul_backends import MATMUL_BACKENDS, MatMul, matmul_available


class Cache(Protocol):
    """Keys and values of every slot, by layer. Implemented by `engine/kv_cache.py`."""

    def write_prompt(self, layer: int, slot: int, k: Tensor, v: Tensor) -> None: ...

    def begin(self, positions: Tensor) -> None: ...

    def attend(self, layer: int, qkv: Tensor) -> Tensor: ...


@dataclass(frozen=True)
class GPTConfig:
    """Sizes of one transformer, under Suno's names; `n_codes_*` are for the fine model only."""

    input_vocab_size: int
    output_vocab_size: int
    n_layer: int
    n_head: int
    n_embd: int
    block_size: int = 1024
    bias: bool = False
    n_codes_total: int = 0
    n_codes_given: int = 0

    def __post_init__(self) -> None:
        if self.n_embd % self.n_head:
            raise ValueError(f"a width of {self.n_embd} can't be divided among {self.n_head} heads")


class LayerNorm(nn.Module):
    """Layer norm whose bias is optional; eps 1e-5."""

    def __init__(self, width: int, bias: bool):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.bias = nn.Parameter(torch.zeros(width)) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        return F.layer_norm(x, self.weight.shape, self.weight, self.bias, 1e-5)


class Attention(nn.Module):
    """The projections of an attention layer; the caller computes the attention itself."""

    def __init__(self, config: GPTConfig):
        super().__init__()
        self.n_head = config.n_head
        self.c_attn = Linear(config.n_embd, 3 * config.n_embd, config.bias)
        self.c_proj = Linear(config.n_embd, config.n_embd, config.bias)

    def qkv(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """x (B, T, C) -> q, k, v, each (B, H, T, D)."""
        B, T, C = x.shape
        q, k, v = self.c_attn(x).split(C, dim=2)
        heads = (B, T, self.n_head, C // self.n_head)
        return q.view(heads).transpose(1, 2), k.view(heads).transpose(1, 2), v.view(heads).transpose(1, 2)

    def project(self, y: Tensor) -> Tensor:
        """y (B, H, T, D) -> (B, T, C)."""
        B, H, T, D = y.shape
        return self.c_proj(y.transpose(1, 2).reshape(B, T, H * D))


class MLP(nn.Module):
    def __init__(self, config: GPTConfig):
        super().__init__()
        self.c_fc = Linear(config.n_embd, 4 * config.n_embd, config.bias)
        self.c_proj = Linear(4 * config.n_embd, config.n_embd, config.bias)

    def forward(self, x: Tensor) -> Tensor:
        return self.c_proj(F.gelu(self.c_fc(x)))


class Block(nn.Module):
    def __init__(self, config: GPTConfig, norm_bias: bool):
        super().__init__()
        self.ln_1 = LayerNorm(config.n_embd, norm_bias)
        self.attn = Attention(config)
        self.ln_2 = LayerNorm(config.n_embd, norm_bias)
        self.mlp = MLP(config)


class GPT(nn.Module):
    """A causal transformer.

    `merged_len` n is for the semantic prompt: the embeddings of ids [0, n) and [n, 2n) are summed, so that text and
    voice share positions. `head_rows` is the range of the output vocabulary that is used.
    """

    def __init__(self, config: GPTConfig, merged_len: int = 0):
        super().__init__()
        self.config = config
        self.merged_len = merged_len
        self.head_rows = (0, config.output_vocab_size)
        self.attend = ATTENTION_BACKENDS["plain"]
        self.cache_dtype: torch.dtype | None = None
        self._head: MatMul | None = None
        self.wte = Embedding(config.input_vocab_size, config.n_embd)
        self.wpe = Embedding(config.block_size, config.n_embd)
        self.h = nn.ModuleList([Block(config, norm_bias=config.bias) for _ in range(config.n_layer)])
        self.ln_f = LayerNorm(config.n_embd, config.bias)
        self.lm_head = Embedding(config.output_vocab_size, config.n_embd)

    def embed_prompt(self, ids: Tensor) -> Tensor:
        """ids (P',) -> (1, P, C): P = P' - merged_len positions."""
        n = self.merged_len
        x = self.wte(ids)
        if n:
            x = torch.cat([x[:n] + x[n : 2 * n], x[2 * n :]])
        return (x + self.wpe.weight[: len(x)])[None]

    def prefill(self, ids: Tensor, cache: Cache, slot: int) -> Tensor:
        """Fill one slot with a prompt; ids (P',) -> logits (1, V) of its last position.

        One prompt at a time: its arithmetic can't depend on other rows, and hundreds of positions already run at
        the machine's full matrix speed. In the last layer all but the keys and values is
        computed for the last position only.
        """
        x = self.embed_prompt(ids)
        for layer, block in enumerate(self.h):
            q, k, v = block.attn.qkv(block.ln_1(x))
            cache.write_prompt(layer, slot, k[0], v[0])
            if layer == len(self.h) - 1:
                q, x = q[:, :, -1:], x[:, -1:]
            x = x + block.attn.project(self.attend(q, k, v, q.shape[2] > 1))
            x = x + block.mlp(block.ln_2(x))
        return self.logits(x[:, -1])

    def decode(self, tokens: Tensor, positions: Tensor, cache: Cache) -> Tensor:
        """One token for each slot: tokens (S,), positions (S,) -> logits (S, V).

        Always all S slots, busy or not (an idle slot is at position 0): a matrix product's low bits depend on its
        shape, so the fixed shape makes a row's numbers independent of the other slots.
        """
        cache.begin(positions)
        x = self.wte(tokens) + self.wpe(positions)  # (S, C)
        for layer, block in enumerate(self.h):
            x = x + block.attn.c_proj(cache.attend(layer, block.attn.c_attn(block.ln_1(x))))
            x = x + block.mlp(block.ln_2(x))
        return self.logits(x)

    def logits(self, x: Tensor) -> Tensor:
        """x (B, C) -> (B, V) float32, V = the number of `head_rows`."""
        x = self.ln_f(x)
        if self._head is None:
            low, high = self.head_rows
            return F.linear(x, self.lm_head.weight[low:high]).float()
        return self._head(x).float()

    def pack_weights(self, kernels: KernelConfig) -> None:
        """Pack the weights for these kernels; call it once, after `head_rows` is set. The head stays exact."""
        pack_weights(self, kernels)
        self.attend, self.cache_dtype = ATTENTION_BACKENDS[kernels.attend], kernels.cache_dtype
        if kernels.decode != "plain":
            low, high = self.head_rows
            self._head = MATMUL_BACKENDS["onednn" if matmul_available("onednn") else "plain"](
                self.lm_head.weight[low:high], None
            )
