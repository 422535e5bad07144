"""Step 9: everything into one folder in the Hugging Face layout of a Bark checkpoint, with its voices.

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
import train_fine
import vocoder
from codebooks import RESIDUAL_SHARDS, VOICES, Codebooks
from corpus import COARSE_INFER, COARSE_PAD, COARSE_VOCABULARY, SEMANTIC, TEXT_OFFSET, Corpus
from safetensors.torch import save_file
from train_gpt import HEADS, LAYERS, WIDTH, Taught

from pipeline.checkpoints.formats import HF_PREFIX, hf_name

BOOK = "codec_model.quantizer.layers.{}.codebook.embed"
PROMPT_S = (1.4, 1.9)  # how long the sentence is that becomes every voice's prompt
FINE_TEMPERATURE = 0.5


def gpt_tensors(state: pathlib.Path, stage: str, corpus: Corpus) -> dict[str, torch.Tensor]:
    """Averaged weights, the tables that are sums written out."""
    model = Taught(stage, corpus)
    model.load_state_dict(torch.load(state / f"{stage}.pt")["model"], strict=False)
    return {
        HF_PREFIX[stage] + hf_name(name): weight.half().contiguous() for name, weight in model.written_out().items()
    }


def fine_tensors(state: pathlib.Path) -> dict[str, torch.Tensor]:
    """A tied pair is stored once, as the head."""
    weights = torch.load(state / "fine.pt")["model"]
    return {
        HF_PREFIX["fine"] + hf_name(name): weight.half().contiguous()
        for name, weight in weights.items()
        if not name.startswith("wtes.") or name.startswith("wtes.0.")
    } | {
        HF_PREFIX["fine"] + hf_name(f"lm_heads.{q - 1}.weight"): weights[f"wtes.{q}.weight"].half().contiguous()
        for q in range(1, 8)
        if f"lm_heads.{q - 1}.weight" not in weights
    }


def codec_tensors(state: pathlib.Path) -> dict[str, torch.Tensor]:
    """Decoder and codebooks under transformers' names, plain weights as weight norm."""
    out = {}
    weights = torch.load(state / "decoder.pt")["model"]
    last = list(weights)[-1].rsplit(".", 1)[0]
    for name, weight in weights.items():
        if name.startswith(last):  # losses worked on louder samples
            weight = weight / train_decoder.LOUDNESS
        name = name.replace("model.", "decoder.layers.", 1)
        name = "codec_model." + name.replace(".convtr.convtr.", ".conv.").replace(".conv.conv.", ".conv.")
        if name.endswith(".weight"):
            out[f"{name.removesuffix('weight')}parametrizations.weight.original0"] = weight.norm(
                dim=(1, 2), keepdim=True
            )
            name = f"{name.removesuffix('weight')}parametrizations.weight.original1"
        out[name] = weight
    for q, book in enumerate(Codebooks(state / "codebooks.npz").books):
        out[BOOK.format(q)] = torch.from_numpy(book)
    return {name: tensor.half().contiguous() for name, tensor in out.items()}


def shape(vocabulary_in: int, vocabulary_out: int, heads: int, layers: int, width: int) -> dict:
    return {
        "input_vocab_size": vocabulary_in,
        "output_vocab_size": vocabulary_out,
        "num_heads": heads,
        "num_layers": layers,
        "hidden_size": width,
        "block_size": 1024,
        "bias": False,
        "dropout": 0.0,
    }


def configs(corpus: Corpus) -> tuple[dict, dict]:
    """config.json and generation_config.json."""
    decoder, fine = train_decoder.SHAPE, train_fine.SHAPE
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
    causal = (HEADS, LAYERS, WIDTH)
    config = {
        "model_type": "bark",
        "architectures": ["BarkModel"],
        "semantic_config": {"model_type": "semantic", **shape(corpus.semantic_vocabulary, SEMANTIC + 1, *causal)},
        "coarse_acoustics_config": {
            "model_type": "coarse_acoustics",
            **shape(COARSE_VOCABULARY, COARSE_VOCABULARY, *causal),
        },
        "fine_acoustics_config": {
            "model_type": "fine_acoustics",
            **shape(fine.input_vocab_size, fine.output_vocab_size, fine.n_head, fine.n_layer, fine.n_embd),
            "n_codes_total": fine.n_codes_total,
            "n_codes_given": fine.n_codes_given,
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
            "max_segment_tokens": 40,
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
            "temperature": FINE_TEMPERATURE,
            "max_fine_history_length": 512,
            "max_fine_input_length": 1024,
            "n_fine_codebooks": 8,
        },
    }
    return config, generation


def write_voices(corpus: Corpus, folder: pathlib.Path) -> None:
    """One history prompt a voice: the same training sentence in each, short, so that prompts stay short."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    low, high = (75 * s for s in PROMPT_S)
    fit = [
        s
        for s in corpus.utterances
        if low <= s.codes.shape[2] <= high and s.codes.shape[1] == 8 and len(s.text.split()) >= 5 and s.text[-1] == "."
    ]
    said = random.Random(12).choice(fit)
    print("prompt:", said.text)
    for codes, name in zip(said.codes, VOICES, strict=True):
        np.savez(
            folder / f"{name}.npz",
            semantic_prompt=corpus.tokens(said),
            coarse_prompt=codes[:2].astype(np.int64),
            fine_prompt=codes.astype(np.int32),
        )


def main(state: pathlib.Path, out: pathlib.Path) -> None:
    out.mkdir(parents=True, exist_ok=True)
    corpus = Corpus(state, RESIDUAL_SHARDS)
    for name, content in zip(("config.json", "generation_config.json"), configs(corpus), strict=True):
        (out / name).write_text(json.dumps(content, indent=2) + "\n")
    tokenizer = json.loads((state / "tokenizer.json").read_text())
    (out / "tokenizer.json").write_text(json.dumps(tokenizer, ensure_ascii=False, separators=(",", ":")) + "\n")
    tensors = codec_tensors(state) | fine_tensors(state)
    for stage in ("semantic", "coarse"):
        tensors |= gpt_tensors(state, stage, corpus)
    save_file(tensors, out / "model.safetensors", metadata={"format": "pt"})
    write_voices(corpus, out / "voices")
    size_mb = sum(path.stat().st_size for path in out.rglob("*") if path.is_file()) / 1e6
    print(f"{out}: {size_mb:.1f} MB, {sum(t.numel() for t in tensors.values()) / 1e6:.2f} M numbers")


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]))
