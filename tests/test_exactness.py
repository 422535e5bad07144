"""A row's tokens and samples don't depend on the rows that are generated beside it."""

from collections.abc import Generator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pipeline import Bark, HistoryPrompt, Result, Sampling
from pipeline.bark import coarse as coarse_stage
from pipeline.bark.build import ExecutionConfig
from pipeline.bark.decode import DecodeStage
from pipeline.bark.fine import FineStage
from pipeline.bark.registry import build_stages
from pipeline.bark.stage import Utterance, run
from pipeline.bark.voice import load_voice
from pipeline.checkpoints.checkpoint import Checkpoint
from pipeline.engine.engine import DecodeRequest, DecodeResult, GenerationTask
from pipeline.kernels.autotune import INT8_KERNELS, KernelConfig
from pipeline.kernels.matmul_backends import matmul_available

Row = tuple[str, str | None, int, Sampling]

SHORT = Sampling(max_semantic_tokens=45)
ROWS: list[Row] = [
    ("First comes a sentence of some length, to be sure.", None, 0, Sampling(max_semantic_tokens=150)),
    ("Second.", "v2/en_speaker_6", 1, SHORT),
    (
        "Third, hotter than the others.",
        "v2/zh_speaker_1",
        2,
        Sampling(semantic_temperature=1.2, max_semantic_tokens=90),
    ),
    ("Fourth, without a dice.", None, 3, Sampling.greedy(max_semantic_tokens=60)),
    ("Fifth.", "v2/de_speaker_3", 4, Sampling(top_k=20, top_p=0.9, max_semantic_tokens=30)),
    ("Sixth, never early.", None, 5, Sampling(allow_early_stop=False, max_semantic_tokens=33)),
    ("Second.", "v2/en_speaker_6", 6, SHORT),  # as the second, with another seed
    ("Eighth, greedy in one stage only.", "v2/en_speaker_1", 7, Sampling(fine_temperature=0, max_semantic_tokens=25)),
    ("And the announcer.", "announcer", 9, Sampling(max_semantic_tokens=40, allow_early_stop=False)),
    ("Ninth.", None, 8, Sampling(coarse_temperature=0, min_eos_p=0.01, max_semantic_tokens=150)),
]


def generate(bark: Bark, rows: list[Row]) -> list[Result]:
    texts, voices, seeds, samplings = zip(*rows, strict=True)
    return bark.generate(list(texts), voices=list(voices), seeds=list(seeds), sampling=list(samplings))


def same(a: Result, b: Result) -> bool:
    """Equal to the last bit."""
    arrays = ("semantic", "coarse", "fine", "audio")
    return a.stop == b.stop and all(np.array_equal(getattr(a, n), getattr(b, n)) for n in arrays)


@pytest.fixture(scope="module")
def together(bark: Bark) -> list[Result]:
    """Ten rows through four slots: slots are refilled, and windows of different utterances run side by side."""
    results = generate(bark, ROWS)
    assert all(result.audio.size for result in results)
    assert len({result.semantic.size for result in results}) > 4  # lengths really differ
    return results


@pytest.mark.parametrize("index", range(len(ROWS)))
def test_batched_row_equals_the_row_alone(bark: Bark, together: list[Result], index: int) -> None:
    (alone,) = generate(bark, [ROWS[index]])
    assert same(together[index], alone)


def test_order_and_neighbors_do_not_matter(bark: Bark, together: list[Result]) -> None:
    backwards = generate(bark, ROWS[::-1])
    assert all(same(a, b) for a, b in zip(together, backwards[::-1], strict=True))


def test_another_number_of_slots_gives_the_same_tokens(tiny: Path, together: list[Result]) -> None:
    wide = Bark.load(tiny, device="cpu", dtype="float32", slots=8)
    for a, b in zip(together, generate(wide, ROWS), strict=True):
        assert np.array_equal(a.fine, b.fine)


def test_seed_matters_and_is_reported(bark: Bark, together: list[Result]) -> None:
    assert not np.array_equal(together[1].fine, together[6].fine)
    random = bark.generate(["Any."], sampling=SHORT)[0]
    again = bark.generate(["Any."], seeds=[random.seed], sampling=SHORT)[0]
    assert same(random, again)


def test_greedy_does_not_depend_on_the_seed(bark: Bark) -> None:
    greedy = Sampling.greedy(max_semantic_tokens=25)
    a, b = bark.generate(["No dice."] * 2, seeds=[1, 2], sampling=greedy)
    assert same(a, b)


def test_stop_reasons_are_reported(bark: Bark, together: list[Result]) -> None:
    assert {result.stop for result in together} >= {"eos", "length"}  # eos_p: tests/engine/test_sampling.py
    never = together[5]
    assert never.stop == "length" and never.semantic.size == 33


@pytest.mark.parametrize("voice_name", [None, "v2/en_speaker_6", "short"])
def test_continued_cache_equals_a_new_prefill_in_every_window(
    bark: Bark, voice_name: str | None, monkeypatch: Any
) -> None:
    """Windows that continue in their slot generate the same tokens as from a full prompt."""
    voice = load_voice(voice_name) if voice_name and voice_name != "short" else None
    if voice_name == "short":
        voice = bark.generate(["a"], seeds=[3], sampling=Sampling(max_semantic_tokens=40, allow_early_stop=False))[
            0
        ].as_voice()
    utterance = Utterance(0, Sampling.greedy(), voice)
    semantic = np.random.default_rng(0).integers(0, 10_000, 260)
    continued = run(bark.stages["coarse"], [utterance], [semantic])[0]
    generation_task = coarse_stage.generation_task
    continued_requests = []

    def prefilled(*args: Any) -> GenerationTask:
        """The same task with a full prompt for every window."""
        inner: Generator[DecodeRequest, DecodeResult, Any] = generation_task(*args)
        tokens: list[int] = []
        result: DecodeResult | None = None
        while True:
            try:
                request = next(inner) if result is None else inner.send(result)
            except StopIteration as end:
                return end.value
            if request.prompt is None:
                continued_requests.append(request)
                request = DecodeRequest(
                    np.array(tokens), request.num_steps, request.ranges, request.params, request.first_step
                )
            result = yield request
            assert request.prompt is not None
            tokens = [*request.prompt.tolist(), *result.tokens]

    monkeypatch.setattr(coarse_stage, "generation_task", prefilled)
    again = run(bark.stages["coarse"], [utterance], [semantic])[0]
    assert np.array_equal(continued, again)
    count = len(continued_requests)
    assert count == {None: 10, "v2/en_speaker_6": 0, "short": count}[voice_name]
    assert voice_name != "short" or count > 3


def test_result_saves_and_loads_as_a_voice(bark: Bark, together: list[Result], tmp_path: Path) -> None:
    path = tmp_path / "mine.npz"
    together[0].save_voice(path)
    from_file, from_memory = bark.generate(
        ["As before."] * 2, voices=[str(path), together[0].as_voice()], seeds=[1, 1], sampling=SHORT
    )
    assert same(from_file, from_memory)
    with np.load(path) as voice:  # Suno's names, shapes and ratio
        assert voice["semantic_prompt"].ndim == 1 and voice["coarse_prompt"].shape[0] == 2
        assert voice["fine_prompt"].shape == (8, voice["coarse_prompt"].shape[1])
        assert HistoryPrompt(voice["semantic_prompt"], voice["coarse_prompt"], voice["fine_prompt"])


def test_say_splits_and_joins_with_the_pause(bark: Bark) -> None:
    from pipeline import SegmentLimits
    from pipeline.bark.long_text import segment_seed

    text, limits = "One sentence here. Another one there. And a third.", SegmentLimits(max_chars=20)
    segments = bark.encoder.split(text, limits)
    assert segments == ["One sentence here.", "Another one there.", "And a third."]
    said = bark.say(text, seed=5, limits=limits, sampling=SHORT, pause_s=0.1)
    clips = bark.generate(segments, seeds=[segment_seed(5, i) for i in range(3)], sampling=SHORT)
    assert segment_seed(5, 0) == 5
    pause = np.zeros(2400, np.float32)
    expected = [clips[0].audio, pause, clips[1].audio, pause, clips[2].audio]
    assert np.array_equal(said, np.concatenate(expected))


KERNEL_CONFIGS = [
    KernelConfig("onednn", "plain"),
    KernelConfig("onednn", "onednn"),
    KernelConfig("onednn", "onednn", "tiled"),
    INT8_KERNELS,
    KernelConfig("int8", "onednn_int8", "tiled"),
    KernelConfig("onednn_int8", "onednn_int8"),
]


@pytest.mark.slow
@pytest.mark.parametrize("kernels", KERNEL_CONFIGS, ids=str)
def test_batched_row_equals_the_row_alone_with_all_kernels(tiny: Path, kernels: KernelConfig) -> None:
    for name in (kernels.decode, kernels.prefill):
        if not matmul_available(name):
            pytest.skip(f"this torch or processor has no {name}")
    checkpoint = Checkpoint(tiny)
    execution = ExecutionConfig(torch.device("cpu"), torch.float32, 4, kernels)
    bark = Bark(build_stages(checkpoint, execution), checkpoint)
    together = generate(bark, ROWS[:6])
    assert all(same(result, generate(bark, [row])[0]) for row, result in zip(ROWS, together, strict=False))


def test_batched_fine_windows_equal_windows_alone(bark: Bark, tiny: Path) -> None:
    """The batches of a GPU, on a CPU: five utterances of one to three windows, four windows in a pass."""
    batched = FineStage(Checkpoint(tiny).fine())
    batched.batch = 4
    greedy = Sampling.greedy()
    voices = [None, load_voice("v2/en_speaker_6"), None, None, load_voice("v2/fr_speaker_1")]
    utterances = [Utterance(i, greedy, voice) for i, voice in enumerate(voices)]
    rng = np.random.default_rng(2)
    coarse = [rng.integers(0, 1024, (2, frames)) for frames in (40, 300, 1100, 700, 1500)]
    alone = run(bark.stages["fine"], utterances, coarse)
    for one, other in zip(alone, run(batched, utterances, coarse), strict=True):
        assert np.array_equal(one, other)
    assert batched.stats.busy < batched.stats.capacity  # the last pass was padded with repetitions


def test_batched_clips_equal_clips_alone(bark: Bark, tiny: Path) -> None:
    """The batches of a GPU, on a CPU: equal to the last bit in passes of one shape, nearly equal without padding."""
    batched = DecodeStage(Checkpoint(tiny).codec(), torch.device("cpu"))
    batched.batch = 4
    rng = np.random.default_rng(3)
    codes = [rng.integers(0, 1024, (8, frames)) for frames in (40, 6, 7, 75, 1, 76, 40, 6, 20, 33, 150)]
    utterances = [Utterance(0, Sampling())] * len(codes)
    together, unpadded = run(batched, utterances, codes), run(bark.stages["decode"], utterances, codes)
    assert (batched.stats.busy, batched.stats.capacity) == (11, 20)  # of 1, 6, 75 (twice) and 150 frames
    for i, samples in enumerate(together):
        (alone,) = run(batched, utterances[:1], codes[i : i + 1])
        assert np.array_equal(samples, alone)
        np.testing.assert_allclose(samples, unpadded[i], atol=1e-5)
