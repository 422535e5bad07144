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
import words
from codebooks import BOOKS, RESIDUAL_SHARDS, SIZE, VOICES, Codebooks
from corpus import EXPORTED_WORDS, SEMANTIC, SPOKEN_FROM, TEXT_OFFSET, Corpus, make_tokenizer, pronunciations
from safetensors.torch import save_file
from tables import Table, word_parts
from train_gpt import SHAPES, Taught, coarse_row

from pipeline.checkpoints.formats import HF_PREFIX, hf_name

BOOK = "codec_model.quantizer.layers.{}.codebook.embed"
PROMPT = "Welcome to the first chapter."  # what every voice's history says; short, so that prompts stay short
# Logits are written out times these: at Bark's default temperatures the models then draw as at lower ones. Training is
# short, and what they give little probability is mostly wrong.
SHARPER = {"semantic": 1.5, "pitch": 1.2, "said": 3.0, "fine": 4.0}
TEMPERATURE, FINE_TEMPERATURE = 0.7, 0.5


class Vocabulary:
    """Ids of the checkpoint: more words than training had, as sums of their phones, and only the tokens that occur."""

    def __init__(self, state: pathlib.Path, corpus: Corpus):
        path = state / "exported.json"
        self.corpus = corpus
        self.tokenizer = make_tokenizer(state, path, EXPORTED_WORDS)
        self.phones = pronunciations(state / "exported_pronunciations.json", self.tokenizer)
        spoken = np.bincount(np.concatenate([s.base for s in corpus.utterances]), minlength=SEMANTIC)
        often = spoken.reshape(-1, words.PLACES).sum(1) > SPOKEN_FROM
        self.used = np.flatnonzero(np.repeat(often, words.PLACES))  # tokens in training
        self.semantic = len(self.used)  # ids from 0
        self.text_offset = self.semantic + 1
        self.text_pad = self.text_offset + self.tokenizer.get_vocab_size()

    def tokens(self, ids: np.ndarray) -> np.ndarray:
        """Tokens of training -> of the checkpoint; one that was left out becomes its neighbor."""
        return np.minimum(np.searchsorted(self.used, ids), self.semantic - 1)

    def semantic_rows(self, given: Table) -> torch.Tensor:
        """The input table: tokens, end, text, padding, start."""
        whole, known = given.all(), self.corpus.tokenizer.get_vocab()
        text = torch.zeros(self.tokenizer.get_vocab_size(), whole.shape[1])
        for piece, at in self.tokenizer.get_vocab().items():
            if piece in known:
                text[at] = whole[TEXT_OFFSET + known[piece]]
            else:
                parts = word_parts(self.phones[piece])
                text[at] = given.parts[torch.from_numpy(parts[parts >= 0])].sum(0)
        rest = [SEMANTIC], [self.corpus.text_pad, self.corpus.semantic_infer]
        return torch.cat([whole[self.used], whole[rest[0]], text, whole[rest[1]]])


def gpt_tensors(state: pathlib.Path, stage: str, ids: Vocabulary) -> dict[str, torch.Tensor]:
    """Averaged weights, the tables that are sums written out."""
    model = Taught(stage, ids.corpus)
    model.load_state_dict(torch.load(state / f"{stage}.pt")["model"], strict=False)
    weights = model.written_out()
    head = weights["lm_head.weight"]
    if stage == "semantic":
        with torch.no_grad():
            weights["wte.weight"] = ids.semantic_rows(model.given)
        weights["lm_head.weight"] = head[[*ids.used, SEMANTIC]] * SHARPER["semantic"]
    else:
        unvoiced = head[SEMANTIC + SIZE] - unvoiced_surplus(model, ids.corpus)
        head[SEMANTIC : SEMANTIC + SIZE] *= SHARPER["said"]
        head[SEMANTIC + SIZE :] *= SHARPER["pitch"]
        head[SEMANTIC + SIZE] = unvoiced * SHARPER["pitch"]
        for name in ("wte.weight", "lm_head.weight"):
            weights[name] = torch.cat([weights[name][ids.used], weights[name][SEMANTIC:]])
    return {HF_PREFIX[stage] + hf_name(name): weight.half().contiguous() for name, weight in weights.items()}


@torch.no_grad()
def unvoiced_surplus(model: Taught, corpus: Corpus) -> torch.Tensor:
    """(width,) what to take from the head's row of the unvoiced code.

    Below temperature 1 one likely code wins over many less likely ones that together are likelier: of a voiced frame's
    codes there are many, of an unvoiced one's there is one. The row loses a constant, on the average of what the head
    reads, such that at the temperature of sampling unvoiced frames are as frequent as at 1.
    """
    rng, read = random.Random(3), []
    np.random.seed(3)
    model.read_pitch = read.append
    for _ in range(40):
        model.loss([coarse_row(corpus, rng, plain=False)])
    hidden = torch.cat(read)
    mean = hidden.mean(0)
    constant = torch.linalg.solve(hidden.T @ hidden / len(hidden) + 1e-3 * torch.eye(len(mean)), mean)
    constant /= constant @ mean  # about 1 for all that the head reads
    logits = hidden @ model.head.all(SEMANTIC + SIZE, SEMANTIC + 2 * SIZE).T
    wanted = logits.softmax(1)[:, 0].mean()
    low, high = 0.0, 10.0
    for _ in range(30):
        less = logits.clone()
        less[:, 0] -= (low + high) / 2 * (hidden @ constant)
        share = (less * SHARPER["pitch"] / TEMPERATURE).softmax(1)[:, 0].mean()
        low, high = ((low + high) / 2, high) if share > wanted else (low, (low + high) / 2)
    print(f"unvoiced: {wanted:.3f} of frames, less by {low:.2f} nats, spread {(hidden @ constant).std():.2f}")
    return low * constant


def fine_tensors(state: pathlib.Path) -> dict[str, torch.Tensor]:
    """A tied pair is stored once, as the head."""
    weights = torch.load(state / "fine.pt")["model"]
    for name in ("ln_f.weight", "ln_f.bias"):  # not the heads, which are embeddings, too
        weights[name] *= SHARPER["fine"]
    return {
        HF_PREFIX["fine"] + hf_name(name): weight.half().contiguous()
        for name, weight in weights.items()
        if not name.startswith("wtes.") or name.startswith("wtes.0.")
    } | {
        HF_PREFIX["fine"] + hf_name(f"lm_heads.{q - 1}.weight"): weights[f"wtes.{q}.weight"].half().contiguous()
        for q in range(1, BOOKS)
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
    for q, book in enumerate(Codebooks(state).books):
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


def configs(ids: Vocabulary) -> tuple[dict, dict]:
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
    causal = {stage: (shape.n_head, shape.n_layer, shape.n_embd) for stage, shape in SHAPES.items()}
    config = {
        "model_type": "bark",
        "architectures": ["BarkModel"],
        "semantic_config": {
            "model_type": "semantic",
            **shape(ids.text_pad + 2, ids.semantic + 1, *causal["semantic"]),
        },
        "coarse_acoustics_config": {
            "model_type": "coarse_acoustics",
            **shape(ids.semantic + 2050, ids.semantic + 2050, *causal["coarse"]),
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
    sampling = {"do_sample": True, "temperature": TEMPERATURE}
    generation = {
        "model_type": "bark",
        "codebook_size": 1024,
        "sample_rate": vocoder.RATE_HZ,
        "semantic_config": {
            **sampling,
            "eos_token_id": ids.semantic,
            "max_input_semantic_length": 256,
            "max_new_tokens": 768,
            "max_segment_tokens": 40,
            "semantic_infer_token": ids.text_pad + 1,
            "semantic_pad_token": ids.semantic,
            "semantic_rate_hz": 49.9,
            "semantic_vocab_size": ids.semantic,
            "text_encoding_offset": ids.text_offset,
            "text_pad_token": ids.text_pad,
        },
        "coarse_acoustics_config": {
            **sampling,
            "coarse_infer_token": ids.semantic + 2049,
            "coarse_rate_hz": 75,
            "coarse_semantic_pad_token": ids.semantic + 2048,
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


def write_voices(ids: Vocabulary, folder: pathlib.Path) -> None:
    """One history prompt a voice: the same training sentence in each."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    said = next(said for said in ids.corpus.utterances if said.text == PROMPT and said.codes.shape[1] == BOOKS)
    for codes, name in zip(said.codes, VOICES, strict=True):
        np.savez(
            folder / f"{name}.npz",
            semantic_prompt=ids.tokens(ids.corpus.tokens(said)),
            coarse_prompt=codes[:2].astype(np.int64),
            fine_prompt=codes.astype(np.int32),
        )


def main(state: pathlib.Path, out: pathlib.Path) -> None:
    out.mkdir(parents=True, exist_ok=True)
    ids = Vocabulary(state, Corpus(state, RESIDUAL_SHARDS))
    for name, content in zip(("config.json", "generation_config.json"), configs(ids), strict=True):
        (out / name).write_text(json.dumps(content, indent=2) + "\n")
    tokenizer = json.loads((state / "exported.json").read_text())
    (out / "tokenizer.json").write_text(json.dumps(tokenizer, ensure_ascii=False, separators=(",", ":")) + "\n")
    tensors = codec_tensors(state) | fine_tensors(state)
    for stage in ("semantic", "coarse"):
        tensors |= gpt_tensors(state, stage, ids)
    save_file(tensors, out / "model.safetensors", metadata={"format": "pt"})
    write_voices(ids, out / "voices")
    size_mb = sum(path.stat().st_size for path in out.rglob("*") if path.is_file()) / 1e6
    print(f"{out}: {size_mb:.1f} MB, {sum(t.numel() for t in tensors.values()) / 1e6:.2f} M numbers")


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]))
