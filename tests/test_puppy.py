"""The built-in model says words: a recogniser that knows nothing of it hears them."""

from pathlib import Path

import numpy as np
import pytest

from pipeline import Bark, Result
from pipeline.bark.voice import own_voices
from pipeline.checkpoints.hub import BUILT_IN
from tests.recognizer import errors, hear, words

HELD_OUT = (Path(__file__).parent / "data" / "heldout.txt").read_text().splitlines()
TEXTS = HELD_OUT[::15]  # four that training never saw
VOICES = ("rms", "middle", "high")
pytestmark = pytest.mark.hearing
MOST_WRONG = 0.4  # of the words; the model card says what it is: about a quarter


@pytest.fixture(scope="module")
def puppy() -> Bark:
    return Bark.load("puppy", device="cpu", slots=8)


@pytest.fixture(scope="module")
def spoken(puppy: Bark) -> dict[str, list[Result]]:
    seeds = range(len(TEXTS))
    return {voice: puppy.generate(TEXTS, voices=[voice] * len(TEXTS), seeds=list(seeds)) for voice in VOICES}


def wrong_share(texts: list[str], heard: list[list[str]]) -> float:
    """Word errors of what was heard, per word of the texts."""
    wrong = sum(errors(words(text), each) for text, each in zip(texts, heard, strict=True))
    return wrong / sum(len(words(text)) for text in texts)


def test_its_words_are_heard(spoken: dict[str, list[Result]]) -> None:
    heard = [hear(result.audio, 24_000) for voice in VOICES for result in spoken[voice]]
    wrong = wrong_share(TEXTS * 3, heard)
    assert wrong < MOST_WRONG
    assert wrong_share(TEXTS * 3, heard[1:] + heard[:1]) > wrong + 0.15  # another clip's words match worse


def test_it_ends_by_itself(spoken: dict[str, list[Result]]) -> None:
    stops = [result.stop for results in spoken.values() for result in results]
    assert sum(stop in ("eos", "eos_p") for stop in stops) >= 0.9 * len(stops)


def test_its_voices_differ(spoken: dict[str, list[Result]]) -> None:
    """By pitch: the lag at which a clip resembles itself most."""

    def pitch_hz(samples: np.ndarray) -> float:
        alike = np.fft.irfft(np.abs(np.fft.rfft(samples, 2 * samples.size)) ** 2)
        lags = np.arange(24_000 // 300, 24_000 // 60)
        best = alike[lags].max()
        return float(24_000 / lags[np.argmax(alike[lags] > 0.9 * best)])

    pitches = [np.median([pitch_hz(result.audio) for result in spoken[voice]]) for voice in VOICES]
    assert pitches[0] < 100 < pitches[1] < 190 < pitches[2]


def test_a_long_text_is_split_and_said(puppy: Bark) -> None:
    text = " ".join(TEXTS)
    assert len(puppy.encoder.split(text)) > 1
    samples = puppy.say(text, voice="rms", seed=1)
    assert samples.size / 24_000 > 0.3 * len(text.split())  # seconds for a word: none is dropped
    assert wrong_share([text], [hear(samples, 24_000)]) < MOST_WRONG + 0.1  # of 23 words only


def test_it_is_small_and_has_its_voices() -> None:
    folder = BUILT_IN["puppy"]
    assert sorted(own_voices(folder)) == sorted(VOICES)
    assert sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) < 24e6
    assert (folder / "README.md").exists()  # the model card
