"""Weights to train on from, when only an exported checkpoint is left: STATE_DIR/semantic.pt, coarse.pt, decoder.pt.

Codes of codebook 1 are numbered anew whenever codebooks are fitted: a code's rows in the coarse model start as those of
the code of the checkpoint that sounded most like it.

    python training/import_checkpoint.py STATE_DIR CHECKPOINT
"""

import pathlib
import sys

import torch
import train_decoder
from codebooks import Codebooks
from corpus import SEMANTIC, Corpus, code_embeddings
from export import BOOK, STAGES, codec_name
from safetensors.torch import load_file
from train_gpt import WIDTH, build

from pipeline.checkpoints.formats import HF_PREFIX, hf_name


def renumbered(model: dict, old: torch.Tensor, state: pathlib.Path) -> None:
    """In place. old (1024, LATENT): codebook 1 that the model speaks now."""
    new = Codebooks(state / "codebooks.npz").sharpened()[1]
    alike = torch.cdist(new, old).argmin(1)
    if (new - old).abs().max() < 1e-2:  # the same, but for half precision
        return
    rows = slice(SEMANTIC + 1024, SEMANTIC + 2048)
    for name in ("wte.weight", "lm_head.weight"):
        model[name][rows] = model[name][rows][alike] + code_embeddings(state, WIDTH, spread=0.02)[1]
    print(f"codebook 1 is another: {len(alike.unique())} of its codes go on", flush=True)


def main(state: pathlib.Path, checkpoint: pathlib.Path) -> None:
    held = {name: weight.float() for name, weight in load_file(checkpoint / "model.safetensors").items()}
    corpus = Corpus(state)
    if (state / "tokenizer.json").read_text() != (checkpoint / "tokenizer.json").read_text():
        raise SystemExit(f"{checkpoint} was trained on other words: its text ids mean something else")
    for stage in STAGES:
        model = {name: held[HF_PREFIX[stage] + hf_name(name)] for name in build(stage, corpus).state_dict()}
        if stage == "coarse":
            renumbered(model, held[BOOK.format(1)], state)
        torch.save({"model": model, "step": 0}, state / f"{stage}.pt")
    decoder = {name: held[codec_name(name)] for name in train_decoder.build().state_dict()}
    torch.save({"model": decoder, "step": 0, "seen_s": 0.0}, state / "decoder.pt")


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]))
