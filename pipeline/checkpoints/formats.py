"""The two published layouts of a Bark checkpoint, read into one set of names.

    Hugging Face   config.json, generation_config.json, model.safetensors or pytorch_model.bin (also in several
                   files with an index), tokenizer files; the codec is inside
    Suno           text_2.pt, coarse_2.pt, fine_2.pt (or the small text.pt, ...), encodec_24khz-*.th

Our names are Suno's without `_orig_mod.` and `transformer.`, and the encodec package's for the codec.
Source of the name pairs: transformers `convert_suno_to_hf.py`, `convert_encodec_checkpoint_to_pytorch.py`.
"""

import re
from dataclasses import fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pipeline.checkpoints.files import demand, load_pickle, named_tensors, pick, read_json, read_tensors, section
from pipeline.errors import CheckpointError, one_line
from pipeline.model.codec import CodecConfig
from pipeline.model.gpt import GPTConfig
from pipeline.spec import Vocabulary

TRANSFORMERS = ("semantic", "coarse", "fine")

# (ours, Hugging Face's), applied left to right for reading ours out of theirs
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


def hf_name(ours: str) -> str:
    """h.0.attn.c_attn.weight -> layers.0.attn.att_proj.weight"""
    for mine, theirs in NAME_PAIRS:
        ours = re.sub(rf"(^|\.){re.escape(mine)}", rf"\g<1>{theirs}", ours)
    return ours


def our_name(hf: str) -> str:
    """layers.0.attn.att_proj.weight -> h.0.attn.c_attn.weight"""
    for mine, theirs in NAME_PAIRS:
        hf = re.sub(rf"(^|\.){re.escape(theirs)}", rf"\g<1>{mine}", hf)
    return hf


def our_codec_name(hf: str) -> str:
    """decoder.layers.3.conv.weight_g -> decoder.model.3.convtr.convtr.weight_g (layers 3, 6, 9, ... are transposed)"""
    hf = hf.replace("parametrizations.weight.original0", "weight_g").replace(
        "parametrizations.weight.original1", "weight_v"
    )
    if hf.startswith("quantizer."):
        return hf.replace("quantizer.layers.", "quantizer.vq.layers.").replace(".codebook.", "._codebook.")
    # in the decoder a convolution that is no part of a residual block and not first or last is transposed
    hf = hf.replace("decoder.layers.", "decoder.model.", 1)
    return re.sub(r"(?<!\.lstm)\.conv\.", ".conv.conv.", hf)


class HuggingFaceFormat:
    """A folder with config.json."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.json = read_json(folder / "config.json")
        path = folder / "generation_config.json"
        self.generation = read_json(path) if path.exists() else {}

    def where(self, stage: str) -> str:
        """File and key of a transformer's sizes."""
        return f"{self.folder / 'config.json'}: {HF_CONFIG[stage]}"

    def gpt_config(self, stage: str) -> GPTConfig:
        theirs = section(self.json, HF_CONFIG[stage], self.folder / "config.json")
        return pick(GPTConfig, theirs, HF_GPT_FIELDS, self.where(stage))

    def codec_config(self) -> CodecConfig:
        path = self.folder / "config.json"
        theirs = section(self.json, "codec_config", path)
        config = pick(CodecConfig, theirs, HF_CODEC_FIELDS, f"{path}: codec_config")
        shortcut = theirs.get("use_conv_shortcut", True)
        demand("use_conv_shortcut", bool, shortcut, f"{path}: codec_config: use_conv_shortcut")
        ratios = tuple(config.ratios)
        return CodecConfig(**{**vars(config), "ratios": ratios, "true_skip": not shortcut})

    def vocabulary(self) -> Vocabulary:
        """Token ids from generation_config.json where stated, else Bark's."""
        path = self.folder / "generation_config.json"
        known: dict[str, int] = {}
        for part in ("semantic_config", "coarse_acoustics_config"):
            stated = section(self.generation, part, path)
            for name in [field.name for field in fields(Vocabulary) if field.name in stated]:
                demand(name, int, stated[name], f"{path}: {part}: {name}")
                known[name] = stated[name]
        return Vocabulary(**known)

    def tensors(self, part: str) -> dict[str, Tensor]:
        """Weights of one stage or of `codec`, under our names."""
        rename = our_codec_name if part == "codec" else our_name
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
                held = list(section(read_json(index), "weight_map", index).values())
                if not held or not all(isinstance(n, str) for n in held):
                    raise CheckpointError(f"{index}: weight_map must hold a file's name for each weight")
                if any("/" in n or "\\" in n for n in held):
                    raise CheckpointError(f"{index}: weight_map: weight files must lie beside the index")
                return [self.folder / n for n in sorted(set(held))]
        raise CheckpointError(f"{self.folder}: has config.json but neither model.safetensors nor pytorch_model.bin")


class SunoFormat:
    """A folder with text_2.pt, coarse_2.pt, fine_2.pt, or the small ones without `_2`."""

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
        """The package's file holds no sizes: they are read off the weights."""
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
            raise CheckpointError(f"{self._path(part)}: holds no state dict under 'model'")
        named = named_tensors(model, f"{self._path(part)}: model")
        return {n.removeprefix("_orig_mod.").removeprefix("transformer."): t for n, t in named}

    def _path(self, stage: str) -> Path:
        return self.folder / f"{SUNO_FILE[stage]}{self.suffix}.pt"

    def _load(self, stage: str) -> dict[str, Any]:
        return load_pickle(self._path(stage))

    def _codec_path(self) -> Path:
        """The codec beside the transformers, else EnCodec's own download (its name carries its hash)."""
        beside = sorted(self.folder.glob("encodec_24khz*.th"))
        if beside:
            return beside[0]
        name = "encodec_24khz-d7cc33bc.th"
        target = Path(torch.hub.get_dir()) / "checkpoints" / name
        if not target.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            url = f"https://dl.fbaipublicfiles.com/encodec/v0/{name}"
            try:
                torch.hub.download_url_to_file(url, str(target), hash_prefix="d7cc33bc", progress=False)
            except (OSError, RuntimeError) as error:  # torch's word for a wrong hash
                reason = one_line(error)
                raise CheckpointError(
                    f"{self.folder}: no encodec_24khz*.th, and {url} can't be fetched ({reason}); put the file there"
                ) from error
        return target
