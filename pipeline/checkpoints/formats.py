"""Reads the two published formats of a Bark checkpoint under one set of names.

    Hugging Face   config.json, generation_config.json, model.safetensors or pytorch_model.bin (also in several
                   files with an index), tokenizer files; the codec is included
    Suno           text_2.pt, coarse_2.pt, fine_2.pt (or the small text.pt, ...), encodec_24khz-*.th

Weights have the names of this project's modules: Suno's without `_orig_mod.` and `transformer.`, and the encodec
package's for the codec.
Source of the name pairs: transformers `convert_suno_to_hf.py`, `convert_encodec_checkpoint_to_pytorch.py`.
"""

import re
from dataclasses import fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pipeline.checkpoints.files import check_size, load_pickle, named_tensors, pick, read_json, read_tensors, section
from pipeline.errors import CheckpointError, one_line
from pipeline.model.codec import CodecConfig
from pipeline.model.gpt import GPTConfig
from pipeline.spec import Vocabulary

TRANSFORMERS = ("semantic", "coarse", "fine")

# (module's name, Hugging Face's name), replaced in this order
NAME_PAIRS = (
    ("h.", "layers."),
    ("c_attn.", "att_proj."),
    ("attn.c_proj.", "attn.out_proj."),
    ("mlp.c_proj.", "mlp.out_proj."),
    ("c_fc.", "in_proj."),
    ("ln_1.", "layernorm_1."),
    ("ln_2.", "layernorm_2."),
    ("ln_f.", "layernorm_final."),
    ("wpe.", "position_embeds_layer."),
    ("wtes.", "input_embeds_layers."),
    ("wte.", "input_embeds_layer."),
)
HF_PREFIX = {"semantic": "semantic.", "coarse": "coarse_acoustics.", "fine": "fine_acoustics.", "codec": "codec_model."}
HF_CONFIG = {"semantic": "semantic_config", "coarse": "coarse_acoustics_config", "fine": "fine_acoustics_config"}
HF_GPT_FIELDS = {"n_layer": "num_layers", "n_head": "num_heads", "n_embd": "hidden_size"}
HF_CODEC_FIELDS = {
    "dimension": "hidden_size",
    "n_filters": "num_filters",
    "n_residual_layers": "num_residual_layers",
    "ratios": "upsampling_ratios",
    "dilation_base": "dilation_growth_rate",
    "lstm": "num_lstm_layers",
}
SUNO_FILE = {"semantic": "text", "coarse": "coarse", "fine": "fine"}


def hf_name(name: str) -> str:
    """h.0.attn.c_attn.weight -> layers.0.attn.att_proj.weight"""
    for module, hf in NAME_PAIRS:
        name = re.sub(rf"(^|\.){re.escape(module)}", rf"\g<1>{hf}", name)
    return name


def module_name(name: str) -> str:
    """layers.0.attn.att_proj.weight -> h.0.attn.c_attn.weight"""
    for module, hf in NAME_PAIRS:
        name = re.sub(rf"(^|\.){re.escape(hf)}", rf"\g<1>{module}", name)
    return name


def codec_module_name(hf: str) -> str:
    """decoder.layers.3.conv.weight_g -> decoder.model.3.convtr.convtr.weight_g (layers 3, 6, 9, ... are transposed)"""
    hf = hf.replace("parametrizations.weight.original0", "weight_g").replace(
        "parametrizations.weight.original1", "weight_v"
    )
    if hf.startswith("quantizer."):
        return hf.replace("quantizer.layers.", "quantizer.vq.layers.").replace(".codebook.", "._codebook.")
    # the caller corrects transposed convolutions: those outside residual blocks but the first and the last
    hf = hf.replace("decoder.layers.", "decoder.model.", 1)
    return re.sub(r"(?<!\.lstm)\.conv\.", ".conv.conv.", hf)


class HuggingFaceFormat:
    """The Hugging Face format: a folder with config.json."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.json = read_json(folder / "config.json")
        path = folder / "generation_config.json"
        self.generation = read_json(path) if path.exists() else {}

    def where(self, stage: str) -> str:
        """File and key of a transformer's sizes."""
        return f"{self.folder / 'config.json'}: {HF_CONFIG[stage]}"

    def gpt_config(self, stage: str) -> GPTConfig:
        sizes = section(self.json, HF_CONFIG[stage], self.folder / "config.json")
        return pick(GPTConfig, sizes, HF_GPT_FIELDS, self.where(stage))

    def codec_config(self) -> CodecConfig:
        path = self.folder / "config.json"
        sizes = section(self.json, "codec_config", path)
        config = pick(CodecConfig, sizes, HF_CODEC_FIELDS, f"{path}: codec_config")
        shortcut = sizes.get("use_conv_shortcut", True)
        check_size("use_conv_shortcut", bool, shortcut, f"{path}: codec_config: use_conv_shortcut")
        ratios = tuple(config.ratios)
        return CodecConfig(**{**vars(config), "ratios": ratios, "true_skip": not shortcut})

    def vocabulary(self) -> Vocabulary:
        """Token ids from generation_config.json; Bark's where it has none."""
        path = self.folder / "generation_config.json"
        ids: dict[str, int] = {}
        for part in ("semantic_config", "coarse_acoustics_config"):
            found = section(self.generation, part, path)
            for name in [field.name for field in fields(Vocabulary) if field.name in found]:
                check_size(name, int, found[name], f"{path}: {part}: {name}")
                ids[name] = found[name]
        return Vocabulary(**ids)

    def tensors(self, part: str) -> dict[str, Tensor]:
        """Weights of one stage or of `codec`, under the modules' names."""
        rename = codec_module_name if part == "codec" else module_name
        prefix = HF_PREFIX[part]
        found = {rename(n[len(prefix) :]): t for f in self._weight_files() for n, t in read_tensors(f, prefix)}
        if not found:
            raise CheckpointError(f"{self.folder}: no weights named {prefix}*: not a Bark checkpoint")
        return found

    def _weight_files(self) -> list[Path]:
        for name in ("model.safetensors", "pytorch_model.bin"):
            if (self.folder / name).exists():
                return [self.folder / name]
            index = self.folder / f"{name}.index.json"
            if index.exists():
                names = list(section(read_json(index), "weight_map", index).values())
                if not names or not all(isinstance(n, str) for n in names):
                    raise CheckpointError(f"{index}: weight_map must give a file name for each weight")
                if any("/" in n or "\\" in n for n in names):
                    raise CheckpointError(f"{index}: weight_map: weight files must be in the index's folder")
                return [self.folder / n for n in sorted(set(names))]
        raise CheckpointError(f"{self.folder}: has config.json but neither model.safetensors nor pytorch_model.bin")


class SunoFormat:
    """Suno's format: a folder with text_2.pt, coarse_2.pt and fine_2.pt, or the small ones without `_2`."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.suffix = "_2" if (folder / "text_2.pt").exists() else ""

    def where(self, stage: str) -> str:
        """File and key of a transformer's sizes."""
        return f"{self._path(stage)}: model_args"

    def gpt_config(self, stage: str) -> GPTConfig:
        args = dict(section(self._load(stage), "model_args", self._path(stage)))
        for side in ("input", "output"):
            args.setdefault(f"{side}_vocab_size", args.get("vocab_size"))
        return pick(GPTConfig, args, {}, self.where(stage))

    def codec_config(self) -> CodecConfig:
        """The codec's sizes, derived from the shapes of its weights: its file doesn't state them."""
        tensors = self.tensors("codec")
        first = next((t for n, t in tensors.items() if n.startswith("decoder.model.0.conv.conv.weight_v")), None)
        where = f"{self._codec_path()}: decoder.model.0.conv.conv.weight_v"
        if first is None:
            raise CheckpointError(f"{where} is missing")
        if first.dim() != 3:
            raise CheckpointError(f"{where} has shape {tuple(first.shape)}, must have three dimensions")
        lstm = len({n for n in tensors if re.fullmatch(r"decoder\.model\.1\.lstm\.weight_ih_l\d+", n)})
        default = CodecConfig()
        filters = first.shape[0] // 2 ** len(default.ratios)
        return pick(CodecConfig, {"dimension": first.shape[1], "n_filters": filters, "lstm": lstm}, {}, where)

    def vocabulary(self) -> Vocabulary:
        return Vocabulary()

    def tensors(self, part: str) -> dict[str, Tensor]:
        if part == "codec":
            return dict(read_tensors(self._codec_path(), ""))
        model = self._load(part).get("model")
        if not isinstance(model, dict):
            raise CheckpointError(f"{self._path(part)}: has no state dict under 'model'")
        named = named_tensors(model, f"{self._path(part)}: model")
        return {n.removeprefix("_orig_mod.").removeprefix("transformer."): t for n, t in named}

    def _path(self, stage: str) -> Path:
        return self.folder / f"{SUNO_FILE[stage]}{self.suffix}.pt"

    def _load(self, stage: str) -> dict[str, Any]:
        return load_pickle(self._path(stage))

    def _codec_path(self) -> Path:
        """The codec's file: in the checkpoint's folder, else EnCodec's own download, whose name contains its hash."""
        found = sorted(self.folder.glob("encodec_24khz*.th"))
        if found:
            return found[0]
        name = "encodec_24khz-d7cc33bc.th"
        target = Path(torch.hub.get_dir()) / "checkpoints" / name
        if not target.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            url = f"https://dl.fbaipublicfiles.com/encodec/v0/{name}"
            try:
                torch.hub.download_url_to_file(url, str(target), hash_prefix="d7cc33bc", progress=False)
            except (OSError, RuntimeError) as error:  # torch raises RuntimeError for a wrong hash
                reason = one_line(error)
                raise CheckpointError(
                    f"{self.folder}: has no encodec_24khz*.th, and {url} can't be downloaded ({reason}); put the file "
                    "into the folder"
                ) from error
        return target
