"""Word errors by an independent speech recognizer: pocketsphinx with the English model in its package."""

import re

import numpy as np
from pocketsphinx import Decoder
from scipy.signal import resample_poly

_decoder = None


def hear(samples: np.ndarray, rate_hz: int) -> list[str]:
    """The words that pocketsphinx recognizes in float samples (N,)."""
    global _decoder
    _decoder = _decoder or Decoder(samprate=16_000, loglevel="FATAL")
    if rate_hz == 24_000:
        samples = resample_poly(samples, 2, 3)
    quiet = np.zeros(3200)
    pcm = (np.clip(np.concatenate([quiet, samples, quiet]), -1, 1) * 32_000).astype(np.int16)
    _decoder.start_utt()
    _decoder.process_raw(pcm.tobytes(), full_utt=True)
    _decoder.end_utt()
    heard = _decoder.hyp()
    return words(heard.hypstr if heard else "")


def words(text: str) -> list[str]:
    """The lower-case words of a text, without punctuation."""
    return re.findall(r"[a-z]+", text.lower().replace("'", ""))


def errors(said: list[str], heard: list[str]) -> int:
    """Levenshtein distance between two texts, in words."""
    row = list(range(len(heard) + 1))
    for i, word in enumerate(said, 1):
        previous, row[0] = row[0], i
        for j, other in enumerate(heard, 1):
            previous, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, previous + (word != other))
    return row[-1]
