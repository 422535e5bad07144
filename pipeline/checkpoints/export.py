"""Writes a checkpoint in either published format, to convert one or to store a random model."""

import json
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from pipeline import spec
from pipeline.checkpoints.checkpoint import TRANSPOSED
from pipeline.checkpoints.formats import (
    HF_CODEC_FIELDS,
    HF_CONFIG,
    HF_GPT_FIELDS,
    HF_PREFIX,
    SUNO_FILE,
    TRANSFORMERS,
    hf_name,
)
from pipeline.model.codec import Codec
from pipeline.model.fine import FineGPT
from pipeline.model.gpt import GPT, GPTConfig


class Sizes(Protocol):
    def gpt_config(self, stage: str) -> GPTConfig: ...


class Source(Protocol):
    """The checkpoint to write: a `Checkpoint` or a `RandomCheckpoint`."""

    @property
    def format(self) -> Sizes: ...

    @property
    def vocabulary(self) -> spec.Vocabulary: ...

    def semantic(self) -> GPT: ...

    def coarse(self) -> GPT: ...

    def fine(self) -> FineGPT: ...

    def codec(self) -> Codec: ...


def save_huggingface(source: Source, folder: Path) -> None:
    """Write config.json, generation_config.json and model.safetensors, as transformers' BarkModel loads them."""
    folder.mkdir(parents=True, exist_ok=True)
    config: dict[str, object] = {"model_type": "bark", "architectures": ["BarkModel"]}
    tensors: dict[str, Tensor] = {}
    for stage in TRANSFORMERS:
        sizes = vars(source.format.gpt_config(stage))
        gpt_config = {HF_GPT_FIELDS.get(k, k): v for k, v in sizes.items() if stage == "fine" or "n_codes" not in k}
        config[HF_CONFIG[stage]] = {**gpt_config, "model_type": HF_PREFIX[stage].rstrip("."), "dropout": 0.0}
        model = getattr(source, stage)()
        tensors |= {HF_PREFIX[stage] + hf_name(n): t for n, t in model.state_dict().items()}
    codec = source.codec()
    codec_config = {HF_CODEC_FIELDS.get(k, k): v for k, v in vars(codec.config).items() if k != "true_skip"}
    config["codec_config"] = {
        **codec_config,
        "use_conv_shortcut": not codec.config.true_skip,
        "codebook_dim": codec.config.dimension,
        "model_type": "encodec",
    }
    for name, tensor in unfold_weight_norm(codec).items():
        hf = name.replace("decoder.model.", "decoder.layers.").replace(TRANSPOSED, ".conv.")
        hf = hf.replace(".conv.conv.", ".conv.").replace("quantizer.vq.layers.", "quantizer.layers.")
        tensors[HF_PREFIX["codec"] + hf.replace("._codebook.", ".codebook.")] = tensor
    save_file({n: t.contiguous().clone() for n, t in tensors.items()}, folder / "model.safetensors")
    write_json(folder / "config.json", config)
    write_json(folder / "generation_config.json", generation_config(source))


def generation_config(source: Source) -> dict[str, object]:
    """Token ids and Suno's sampling defaults, under the keys that transformers reads."""
    v = source.vocabulary
    sampled = {"do_sample": True, "temperature": 0.7, "top_k": 0}
    return {
        "model_type": "bark",
        "sample_rate": spec.SAMPLE_RATE,
        "codebook_size": spec.CODEBOOK_SIZE,
        "semantic_config": {
            **sampled,
            "eos_token_id": v.semantic_pad_token,
            "semantic_vocab_size": v.semantic_vocab_size,
            "semantic_pad_token": v.semantic_pad_token,
            "text_encoding_offset": v.text_encoding_offset,
            "text_pad_token": v.text_pad_token,
            "semantic_infer_token": v.semantic_infer_token,
            "min_eos_p": 0.2,
        },
        "coarse_acoustics_config": {
            **sampled,
            "coarse_semantic_pad_token": v.coarse_semantic_pad_token,
            "coarse_infer_token": v.coarse_infer_token,
        },
        "fine_acoustics_config": {"temperature": 0.5},
    }


def save_suno(source: Source, folder: Path, small: bool = False) -> None:
    """Write text_2.pt, coarse_2.pt, fine_2.pt (`small`: without `_2`) and encodec_24khz.th, as Suno and EnCodec do."""
    folder.mkdir(parents=True, exist_ok=True)
    for stage in TRANSFORMERS:
        sizes = {**vars(source.format.gpt_config(stage)), "dropout": 0.0}
        if stage != "fine":
            del sizes["n_codes_total"], sizes["n_codes_given"]
        state = getattr(source, stage)().state_dict()
        content = {
            "model": {f"_orig_mod.{n if n.startswith('lm_head') else 'transformer.' + n}": t for n, t in state.items()},
            "model_args": sizes,
            "best_val_loss": np.float64(2.5),
        }
        torch.save(content, folder / f"{SUNO_FILE[stage]}{'' if small else '_2'}.pt")
    torch.save(unfold_weight_norm(source.codec()), folder / "encodec_24khz.th")


def unfold_weight_norm(codec: nn.Module) -> dict[str, Tensor]:
    """The codec's state with each convolution's weight as length `weight_g` and direction `weight_v` (dim 0)."""
    state: dict[str, Tensor] = {}
    for name, tensor in codec.state_dict().items():
        if name.endswith(("conv.weight", "convtr.weight")):
            state[f"{name}_g"] = torch.norm_except_dim(tensor, 2, 0)
            state[f"{name}_v"] = tensor
        else:
            state[name] = tensor
    return state


def write_json(path: Path, content: dict[str, object]) -> None:
    path.write_text(json.dumps(content, indent=1, default=list) + "\n", encoding="utf-8")
