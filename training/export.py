"""Step 8: everything into one folder in the Hugging Face layout of a Bark checkpoint, with three voices.

python training/export.py STATE_DIR OUT_DIR
"""

import json
import pathlib
import random
import shutil
import sys

import numpy as np
import torch
import train_decoder
import vocoder
from codebooks import Codebooks
from corpus import COARSE_INFER, COARSE_PAD, COARSE_VOCABULARY, SEMANTIC, TEXT_OFFSET, Corpus
from safetensors.torch import save_file

from pipeline.checkpoints.formats import HF_PREFIX, hf_name
from pipeline.model.fine import FineGPT
from pipeline.model.gpt import GPTConfig

STAGES = ("semantic", "coarse")
BOOK = "codec_model.quantizer.layers.{}.codebook.embed"
PROMPT = 12  # chooses the training sentence that becomes every voice's prompt: of nine tried the best, see README
FINE = GPTConfig(1025, 1025, n_layer=1, n_head=1, n_embd=16, n_codes_total=8, n_codes_given=1)


def gpt_tensors(state: pathlib.Path, stage: str) -> dict[str, torch.Tensor]:
    model = torch.load(state / f"{stage}.pt", map_location="cpu")["model"]
    return {HF_PREFIX[stage] + hf_name(name): weight.half().contiguous() for name, weight in model.items()}


def fine_tensors() -> dict[str, torch.Tensor]:
    """Not trained: of codebooks 2 to 7 only the last is heard, and it is noise. Zero heads draw it uniformly.
    A tied pair is stored once, as the head."""
    tensors = {}
    for name, weight in FineGPT(FINE).state_dict().items():
        if not name.startswith("wtes.") or name.startswith("wtes.0."):
            is_scale = name.endswith(("ln_1.weight", "ln_2.weight", "ln_f.weight"))
            tensors[HF_PREFIX["fine"] + hf_name(name)] = torch.full(weight.shape, float(is_scale)).half()
    return tensors


def codec_name(ours: str) -> str:
    """transformers' name of a weight of encodec's decoder"""
    name = ours.replace("model.", "decoder.layers.", 1)
    name = name.replace(".convtr.convtr.", ".conv.").replace(".conv.conv.", ".conv.")
    name = name.replace("weight_g", "parametrizations.weight.original0")
    return "codec_model." + name.replace("weight_v", "parametrizations.weight.original1")


def codec_tensors(state: pathlib.Path) -> dict[str, torch.Tensor]:
    """Decoder and codebooks under transformers' names."""
    weights = torch.load(state / "decoder.pt", map_location="cpu")["model"]
    out = {codec_name(name): weight.half().contiguous() for name, weight in weights.items()}
    for q, book in enumerate(Codebooks(state / "codebooks.npz").sharpened()):
        out[BOOK.format(q)] = book.half().contiguous()
    return out


def configs(state: pathlib.Path, corpus: Corpus) -> tuple[dict, dict]:
    """config.json and generation_config.json."""
    held = {stage: torch.load(state / f"{stage}.pt", map_location="cpu")["model"] for stage in STAGES}

    def shape(stage, vocabulary_in, vocabulary_out, **more):
        return {
            "input_vocab_size": vocabulary_in,
            "output_vocab_size": vocabulary_out,
            "num_heads": 4,
            "num_layers": 1 + max(int(n.split(".")[1]) for n in held[stage] if n.startswith("h.")),
            "hidden_size": held[stage]["ln_f.weight"].numel(),
            "block_size": 1024,
            "bias": False,
            "dropout": 0.0,
            **more,
        }

    decoder = train_decoder.SHAPE
    codec = {
        "model_type": "encodec",
        "sampling_rate": vocoder.RATE_HZ,
        "audio_channels": 1,
        "hidden_size": decoder["dimension"],
        "codebook_dim": decoder["dimension"],
        "codebook_size": 1024,
        "num_filters": decoder["n_filters"],
        "num_residual_layers": 1,
        "upsampling_ratios": decoder["ratios"],
        "num_lstm_layers": decoder["lstm"],
        "norm_type": "weight_norm",
        "kernel_size": 7,
        "last_kernel_size": 7,
        "residual_kernel_size": 3,
        "dilation_growth_rate": 2,
        "compress": 2,
        "use_causal_conv": True,
        "pad_mode": "reflect",
        "trim_right_ratio": 1.0,
        "use_conv_shortcut": True,
        "normalize": False,
        "target_bandwidths": [6.0],
    }
    config = {
        "model_type": "bark",
        "architectures": ["BarkModel"],
        "semantic_config": {"model_type": "semantic", **shape("semantic", corpus.semantic_vocabulary, SEMANTIC + 1)},
        "coarse_acoustics_config": {
            "model_type": "coarse_acoustics",
            **shape("coarse", COARSE_VOCABULARY, COARSE_VOCABULARY),
        },
        "fine_acoustics_config": {
            "model_type": "fine_acoustics",
            **{
                "input_vocab_size": FINE.input_vocab_size,
                "output_vocab_size": FINE.output_vocab_size,
                "num_heads": FINE.n_head,
                "num_layers": FINE.n_layer,
                "hidden_size": FINE.n_embd,
                "block_size": 1024,
                "bias": False,
                "dropout": 0.0,
                "n_codes_total": FINE.n_codes_total,
                "n_codes_given": FINE.n_codes_given,
            },
        },
        "codec_config": codec,
        "initializer_range": 0.02,
    }
    sampling = {"do_sample": True, "temperature": 0.7}
    generation = {
        "model_type": "bark",
        "codebook_size": 1024,
        "sample_rate": vocoder.RATE_HZ,
        "semantic_config": {
            **sampling,
            "eos_token_id": SEMANTIC,
            "max_input_semantic_length": 256,
            "max_new_tokens": 768,
            "max_segment_tokens": 16,
            "semantic_infer_token": corpus.semantic_infer,
            "semantic_pad_token": SEMANTIC,
            "semantic_rate_hz": 49.9,
            "semantic_vocab_size": SEMANTIC,
            "text_encoding_offset": TEXT_OFFSET,
            "text_pad_token": corpus.text_pad,
        },
        "coarse_acoustics_config": {
            **sampling,
            "coarse_infer_token": COARSE_INFER,
            "coarse_rate_hz": 75,
            "coarse_semantic_pad_token": COARSE_PAD,
            "max_coarse_history": 630,
            "max_coarse_input_length": 256,
            "n_coarse_codebooks": 2,
            "sliding_window_len": 60,
        },
        "fine_acoustics_config": {
            "temperature": 0.5,
            "max_fine_history_length": 512,
            "max_fine_input_length": 1024,
            "n_fine_codebooks": 8,
        },
    }
    return config, generation


def write_voices(corpus: Corpus, folder: pathlib.Path) -> None:
    """One history prompt a voice: the same training sentence in each, short, so that prompts stay short."""
    folder.mkdir(parents=True, exist_ok=True)
    for index, name in enumerate(vocoder.VOICES):
        semantic, codes = corpus.history(index, random.Random(PROMPT))
        np.savez(
            folder / f"{name}.npz",
            semantic_prompt=semantic,
            coarse_prompt=codes[:2],
            fine_prompt=codes.astype(np.int32),
        )


def main(state: pathlib.Path, out: pathlib.Path) -> None:
    out.mkdir(parents=True, exist_ok=True)
    corpus = Corpus(state)
    for name, content in zip(("config.json", "generation_config.json"), configs(state, corpus), strict=False):
        (out / name).write_text(json.dumps(content, indent=2) + "\n")
    shutil.copy(state / "tokenizer.json", out / "tokenizer.json")
    tensors = codec_tensors(state) | fine_tensors()
    for stage in STAGES:
        tensors |= gpt_tensors(state, stage)
    save_file(tensors, out / "model.safetensors", metadata={"format": "pt"})
    write_voices(corpus, out / "voices")
    size_mb = sum(path.stat().st_size for path in out.rglob("*") if path.is_file()) / 1e6
    print(f"{out}: {size_mb:.1f} MB, {sum(t.numel() for t in tensors.values()) / 1e6:.2f} M numbers")


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]))
