"""Checkpoints of random weights in any size, for tests and benchmarks. They generate noise, not speech."""

from dataclasses import dataclass, field
from pathlib import Path

import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers
from torch import nn

from pipeline import spec
from pipeline.checkpoints.export import save_huggingface
from pipeline.model.codec import Codec, CodecConfig
from pipeline.model.fine import FineGPT
from pipeline.model.gpt import GPT, GPTConfig


@dataclass(frozen=True)
class RandomCheckpoint:
    """Random weights with the interface of `Checkpoint`, so that the same code writes both.

    `eos_gain` scales the EOS row of the semantic head, so that where an utterance ends depends on its text, as in
    speech.
    """

    n_layer: int = 2
    n_head: int = 2
    n_embd: int = 32
    codec_config: CodecConfig = field(default_factory=lambda: CodecConfig(dimension=16, n_filters=4))
    vocabulary: spec.Vocabulary = field(default_factory=spec.Vocabulary)
    eos_gain: float = 1.5
    seed: int = 0

    @property
    def format(self) -> "RandomCheckpoint":
        return self

    def gpt_config(self, stage: str) -> GPTConfig:
        v = self.vocabulary
        coarse = v.coarse_infer_token + 46  # Bark's 12_096: padded to a multiple of 64
        vocab = {
            "semantic": (v.semantic_infer_token + 1, v.semantic_vocab_size + 48),
            "coarse": (coarse, coarse),
            "fine": (spec.CODEBOOK_SIZE + 32, spec.CODEBOOK_SIZE + 32),
        }[stage]
        codes = (spec.NUM_CODEBOOKS, 1) if stage == "fine" else (0, 0)
        return GPTConfig(*vocab, self.n_layer, self.n_head, self.n_embd, spec.BLOCK_SIZE, False, *codes)

    def semantic(self) -> GPT:
        model = self._random(GPT(self.gpt_config("semantic"), merged_len=spec.TEXT_LEN), 1)
        model.lm_head.weight.data[self.vocabulary.semantic_pad_token] *= self.eos_gain
        return model

    def coarse(self) -> GPT:
        model = self._random(GPT(self.gpt_config("coarse")), 2)
        # transformers may sample ids past the second codebook, Suno can't: rows of zeros make both agree
        model.lm_head.weight.data[self.vocabulary.coarse_range(1)[1] :] = 0
        return model

    def fine(self) -> FineGPT:
        return self._random(FineGPT(self.gpt_config("fine")), 3)

    def codec(self) -> Codec:
        return self._random(Codec(self.codec_config), 4)

    def _random(self, model: nn.Module, salt: int):  # type: ignore[no-untyped-def]
        """Set seeded weights, scaled so that activations keep their magnitude through the layers and logits have a
        standard deviation of about 5."""
        generator = torch.Generator().manual_seed(1000 * self.seed + salt)
        for name, tensor in model.state_dict().items():
            if tensor.dim() < 2:
                continue  # norms stay 1, biases are set below
            std = (tensor.shape[1] if tensor.dim() == 2 else tensor[0].numel()) ** -0.5
            if "wpe" in name or "wte" in name:
                std = 1.0
            if "head" in name:
                std *= 5.0
            tensor.copy_(torch.randn(tensor.shape, generator=generator) * std)
        for name, tensor in model.state_dict().items():
            if tensor.dim() == 1 and name.endswith("bias"):
                tensor.copy_(torch.randn(tensor.shape, generator=generator) * 0.02)
        return model.eval().requires_grad_(False)


def character_tokenizer() -> Tokenizer:
    """A cased WordPiece tokenizer of single characters, of all scripts that Bark speaks. It needs no download."""
    blocks = [(0x21, 0x24F), (0x370, 0x52F), (0x900, 0x97F), (0x2010, 0x2030), (0x3000, 0x30FF), (0x4E00, 0x9FFF)]
    blocks.append((0xAC00, 0xD7A3))
    characters = [chr(c) for low, high in blocks for c in range(low, high + 1)]
    words = ["[UNK]", *characters, *(f"##{c}" for c in characters)]
    tokenizer = Tokenizer(
        models.WordPiece({w: i for i, w in enumerate(words)}, unk_token="[UNK]", max_input_chars_per_word=1000)
    )
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=False)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    return tokenizer


def write_random_checkpoint(folder: Path, model: RandomCheckpoint | None = None) -> Path:
    """Write a random checkpoint with a tokenizer in Hugging Face's format; returns the folder."""
    save_huggingface(model or RandomCheckpoint(), folder)
    character_tokenizer().save(str(folder / "tokenizer.json"))
    return folder
