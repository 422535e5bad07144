"""The non-causal transformer of the fine stage: predicts one codebook for a whole window of frames.

Source: suno-ai/bark `model_fine.py`.
"""

from torch import Tensor, nn
from torch.nn import functional as F

from pipeline import spec
from pipeline.kernels.attention_backends import ATTENTION_BACKENDS
from pipeline.kernels.autotune import KernelConfig
from pipeline.kernels.linear import Embedding, pack_weights
from pipeline.model.gpt import Block, GPTConfig, LayerNorm


class FineGPT(nn.Module):
    """Embeds codebooks 0..k of each frame, sums them, and predicts codebook k for every frame."""

    def __init__(self, config: GPTConfig):
        super().__init__()
        self.config = config
        self.attend = ATTENTION_BACKENDS["plain"]
        self.wtes = nn.ModuleList(
            [Embedding(config.input_vocab_size, config.n_embd) for _ in range(config.n_codes_total)]
        )
        self.wpe = Embedding(config.block_size, config.n_embd)
        # Unlike the causal models, every layer norm has a bias here, whatever `bias` says.
        self.h = nn.ModuleList([Block(config, norm_bias=True) for _ in range(config.n_layer)])
        self.ln_f = LayerNorm(config.n_embd, bias=True)
        self.lm_heads = nn.ModuleList(
            [
                Embedding(config.output_vocab_size, config.n_embd)
                for _ in range(config.n_codes_given, config.n_codes_total)
            ]
        )
        for i, head in enumerate(self.lm_heads):  # wtes[0] alone is not tied to a head
            self.wtes[config.n_codes_given + i].weight = head.weight

    def forward(self, codes: Tensor, codebook: int, start: int = 0, stop: int | None = None) -> Tensor:
        """codes (B, T, Q) -> logits (B, stop - start, 1024), float32, of `codebook` for frames [start, stop).

        Codebook k's own previous content is an input too: "no code yet" (1024) in the first window, the previous
        window's codes in later ones. In the last layer only the requested frames are computed.
        """
        T = codes.shape[1]
        x = self.wtes[0](codes[:, :, 0])
        for q in range(1, codebook + 1):
            x = x + self.wtes[q](codes[:, :, q])
        x = x + self.wpe.weight[:T]
        for block in self.h[:-1]:
            q, k, v = block.attn.qkv(block.ln_1(x))
            x = x + block.attn.project(self.attend(q, k, v, False))  # padded frames are attended to
            x = x + block.mlp(block.ln_2(x))
        block, requested = self.h[-1], slice(start, stop)
        q, k, v = block.attn.qkv(block.ln_1(x))
        x = x[:, requested] + block.attn.project(self.attend(q[:, :, requested], k, v, False))
        x = x + block.mlp(block.ln_2(x))
        head = self.lm_heads[codebook - self.config.n_codes_given]
        return F.linear(self.ln_f(x), head.weight[: spec.CODEBOOK_SIZE]).float()

    def pack_weights(self, kernels: KernelConfig) -> None:
        """Pack the weights for these kernels; call it once. The heads, which are embeddings too, are not packed."""
        pack_weights(self, kernels)
        self.attend = ATTENTION_BACKENDS[kernels.attend]
