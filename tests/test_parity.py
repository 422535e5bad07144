"""Argmax tokens equal Suno's code and transformers' BarkModel, on the same random weights."""

from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

from pipeline import Bark, Sampling
from pipeline.bark.build import ExecutionConfig
from pipeline.bark.registry import build_stages
from pipeline.bark.stage import Utterance, run
from pipeline.bark.voice import HistoryPrompt, load_voice
from pipeline.checkpoints.checkpoint import Checkpoint
from pipeline.checkpoints.formats import SunoFormat
from pipeline.kernels.autotune import PLAIN_KERNELS, KernelConfig
from tests.oracles import as_suno, load_suno

SHORT = "A short text [laughs], and it ends."
VOICES = [None, "v2/en_speaker_6", "announcer", "short", "edge"]
# none, full, uint16, shorter than every history, and one whose semantic window slides before its coarse one does


@pytest.fixture(scope="module")
def suno(tiny_suno: Path, bark: Bark) -> Iterator[ModuleType]:
    generation = load_suno(tiny_suno, lambda text: bark.encoder.tokenizer.encode(text, add_special_tokens=False).ids)
    yield generation
    generation.models.clear()


@pytest.fixture(scope="module")
def short_voice(bark: Bark) -> HistoryPrompt:
    """A voice shorter than every stage's history, made by the model itself."""
    return bark.generate(["a"], seeds=[3], sampling=Sampling(max_semantic_tokens=40, allow_early_stop=False))[
        0
    ].as_voice()


def pick(name: str | None, short: HistoryPrompt) -> HistoryPrompt | None:
    if name == "edge":
        full = load_voice("v2/en_speaker_6")
        return HistoryPrompt(full.semantic[-190:], full.coarse[:, -286:], full.fine[:, -286:])
    return short if name == "short" else load_voice(name) if name else None


@pytest.fixture(
    scope="module", params=[PLAIN_KERNELS, KernelConfig("onednn", "onednn", "tiled")], ids=["plain", "fast"]
)
def laid_out(request: pytest.FixtureRequest, tiny: Path) -> Bark:
    """As wide models are computed; tiny ones are not worth it."""
    checkpoint, at = Checkpoint(tiny), ExecutionConfig(torch.device("cpu"), torch.float32, 4, request.param)
    return Bark(build_stages(checkpoint, at), checkpoint)


@pytest.mark.parametrize("voice_name", VOICES)
def test_argmax_equals_suno(
    suno: ModuleType, laid_out: Bark, voice_name: str | None, short_voice: HistoryPrompt
) -> None:
    voice = pick(voice_name, short_voice)
    ours = laid_out.generate([SHORT], voices=[voice], sampling=Sampling.greedy(max_semantic_tokens=150))[0]
    prompt = as_suno(voice)
    limit_s = 149.5 / 49.9  # suno stops when the 150th token passes this
    semantic = suno.generate_text_semantic(
        SHORT, prompt, top_k=1, silent=True, max_gen_duration_s=limit_s, use_kv_caching=True
    )
    coarse = suno.generate_coarse(semantic, prompt, top_k=1, silent=True, use_kv_caching=True)
    fine = suno.generate_fine(coarse, prompt, temp=None, silent=True)
    assert np.array_equal(ours.semantic, semantic)
    assert np.array_equal(ours.coarse, coarse)
    assert np.array_equal(ours.fine, fine)
    with torch.no_grad():
        np.testing.assert_allclose(ours.audio, suno.codec_decode(fine), atol=1e-4)


@pytest.mark.parametrize("voice_name", [None, "v2/de_speaker_3", "edge"])
def test_more_than_1024_frames_equal_suno(suno: ModuleType, bark: Bark, voice_name: str | None) -> None:
    """Several fine windows, the last right-aligned; a coarse history that has long begun to slide."""
    voice = pick(voice_name, None)  # type: ignore[arg-type]
    greedy = Sampling.greedy()
    semantic = np.random.default_rng(1).integers(0, 10_000, 740)
    utterance = Utterance(0, greedy, voice)
    coarse = run(bark.stages["coarse"], [utterance], [semantic])[0]
    assert np.array_equal(
        coarse, suno.generate_coarse(semantic, as_suno(voice), top_k=1, silent=True, use_kv_caching=True)
    )
    assert coarse.shape[1] > 1024
    fine = run(bark.stages["fine"], [utterance], [coarse])[0]
    assert np.array_equal(fine, suno.generate_fine(coarse, as_suno(voice), temp=None, silent=True))


@pytest.mark.parametrize("voice_name", [None, "v2/de_speaker_3"])
@pytest.mark.parametrize(("window", "history"), [(120, 570), (60, 60), (100, 300)])
def test_other_coarse_windows_equal_suno(
    suno: ModuleType, bark: Bark, voice_name: str | None, window: int, history: int
) -> None:
    """Not as published, but Suno's code has the same two knobs."""
    voice = pick(voice_name, None)  # type: ignore[arg-type]
    semantic = np.random.default_rng(3).integers(0, 10_000, 320)
    sampling = Sampling.greedy(coarse_window=window, coarse_history=history)
    (ours,) = run(bark.stages["coarse"], [Utterance(0, sampling, voice)], [semantic])
    knobs = {"sliding_window_len": window, "max_coarse_history": history}
    theirs = suno.generate_coarse(semantic, as_suno(voice), top_k=1, silent=True, use_kv_caching=True, **knobs)
    assert np.array_equal(ours, theirs)


@pytest.mark.parametrize("filters", [{"top_k": 20}, {"top_p": 0.6}, {"top_k": 40, "top_p": 0.8}, {"temp": 1.3}])
def test_filtered_probabilities_equal_suno(suno: ModuleType, bark: Bark, filters: dict, monkeypatch: Any) -> None:
    """Sampled tokens can't be compared by seed; the probabilities that Suno draws from can, step by step."""
    from pipeline.engine import sampling as ours

    seen: dict[str, list[torch.Tensor]] = {"suno": [], "ours": []}
    monkeypatch.setattr(torch, "multinomial", lambda p, num_samples: seen["suno"].append(p.clone()) or p.argmax()[None])
    # at no noise our race is won by the likeliest token: argmax, as in the stand-in above
    monkeypatch.setattr(ours, "exponential", lambda keys, steps, width, device: torch.ones(len(keys), width))
    softmax = torch.softmax
    monkeypatch.setattr(
        torch,
        "softmax",
        lambda x, dim: seen["ours"].append(y := softmax(x, dim)) or y if x.dim() == 2 else softmax(x, dim),
    )
    suno_filters = {"temp": 0.7, **filters}
    suno.generate_text_semantic(SHORT, silent=True, use_kv_caching=True, max_gen_duration_s=0.3, **suno_filters)
    temperature = suno_filters.pop("temp")
    sampling = Sampling(semantic_temperature=temperature, max_semantic_tokens=15, **suno_filters)
    run(bark.stages["semantic"], bark._utterances([SHORT], None, [0], sampling), [None])
    assert len(seen["suno"]) >= 10
    for theirs, mine in zip(seen["suno"], seen["ours"], strict=False):
        torch.testing.assert_close(mine[0], theirs, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("voice_name", [None, "v2/en_speaker_6"])
@pytest.mark.parametrize("text", [SHORT, "Zweiter Satz, etwas anders."])
def test_argmax_equals_transformers(tiny: Path, bark: Bark, text: str, voice_name: str | None) -> None:
    """transformers at batch 1: no sampling, fine temperature 1.0 (its argmax), the mask given, eager attention."""
    from transformers import BarkModel

    model = BarkModel.from_pretrained(tiny, attn_implementation="eager").eval()
    ids = bark.encoder.encode(text)
    padded = torch.zeros(1, 256, dtype=torch.long)
    padded[0, : ids.size] = torch.from_numpy(ids)
    mask = torch.zeros_like(padded)
    mask[0, : ids.size] = 1
    voice = load_voice(voice_name) if voice_name else None
    prompt = {k: torch.from_numpy(v) for k, v in (as_suno(voice) or {}).items()} or None
    ours = bark.generate([text], voices=[voice], sampling=Sampling.greedy(max_semantic_tokens=60))[0]
    with torch.no_grad():
        audio = model.generate(
            padded, attention_mask=mask, history_prompt=prompt, do_sample=False, fine_temperature=1.0,
            semantic_max_new_tokens=60,
        )  # fmt: skip
    assert audio.shape[-1] == ours.audio.size
    np.testing.assert_allclose(ours.audio, audio[0].numpy(), atol=1e-4)


def test_both_layouts_give_the_same_tokens(bark: Bark, tiny_suno: Path) -> None:
    assert isinstance(Checkpoint(tiny_suno).format, SunoFormat)
    other = Bark.load(tiny_suno, device="cpu", dtype="float32", slots=4, tokenizer=str(tiny_suno))
    limited = Sampling(max_semantic_tokens=30)
    a, b = (model.generate([SHORT], seeds=[5], sampling=limited)[0] for model in (bark, other))
    assert np.array_equal(a.fine, b.fine)
    assert np.array_equal(a.audio, b.audio)
