"""Checks semantic tokens before there is a sound: did they end, are they as many as the text needs, do they loop."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from pipeline.spec import SEMANTIC_RATE_HZ

NGRAM = 8  # tokens, runs of one token counted once: about 0.25 s of speech. Shorter ones repeat in any text
MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)  # of the n-grams' hashes: odd, so that every token counts


def measure_tokens(tokens: np.ndarray) -> dict[str, Any]:
    """How much (S,) semantic tokens repeat themselves, as columns of schema.SEGMENT."""
    if not tokens.size:
        return {"token_repeats": 0.0, "longest_token_run": 0}
    starts = np.concatenate([[0], np.flatnonzero(np.diff(tokens)) + 1, [tokens.size]])
    return {"token_repeats": repeated_share(tokens[starts[:-1]]), "longest_token_run": int(np.diff(starts).max())}


def repeated_share(tokens: np.ndarray) -> float:
    """The share of (S,) tokens that belong to an n-gram which occurs more than once."""
    if tokens.size <= NGRAM:
        return 0.0
    hashes = np.zeros(tokens.size - NGRAM + 1, np.uint64)
    for i in range(NGRAM):
        hashes = hashes * MULTIPLIER + tokens[i : i + hashes.size].astype(np.uint64)
    order = np.argsort(hashes, kind="stable")
    same = np.diff(hashes[order]) == 0
    if not same.any():
        return 0.0
    repeated = np.zeros(hashes.size, bool)
    repeated[order[1:][same]] = repeated[order[:-1][same]] = True
    covered = np.zeros(tokens.size + 1, int)  # +1 where a repeated n-gram begins, -1 after its end
    starts = np.flatnonzero(repeated)
    np.add.at(covered, starts, 1)
    np.add.at(covered, starts + NGRAM, -1)
    return float((np.cumsum(covered[:-1]) > 0).mean())


# Semantic tokens (49.9 per second) per character of the text: [fewest, most]. Speech rates in syllables per second are
# Pellegrino et al. 2011, "A cross-language perspective on speech information rate" (Language 87:3); with the characters
# per syllable of each script, spaces included, they come to 13 to 19 characters per second. The ranges reach from half
# that speed to 2.2 times. An East Asian wide character counts as three (`text.spoken_chars`).
CHARS_PER_SECOND = {
    "en": 15.5,  # 6.2 syllables/s
    "fr": 17.0,  # 7.2
    "de": 16.5,  # 6.0, of longer syllables
    "it": 16.0,  # 7.0
    "es": 17.0,  # 7.8
    "ja": 15.0,  # 7.8 morae, about two to a wide character
    "zh": 15.5,  # 5.2, one to a wide character
    "other": 15.5,
}
SLOWEST, FASTEST = 0.5, 2.2  # times these speeds
TOKENS_PER_CHAR = {
    language: (round(SEMANTIC_RATE_HZ / (FASTEST * rate), 2), round(SEMANTIC_RATE_HZ / (SLOWEST * rate), 2))
    for language, rate in CHARS_PER_SECOND.items()
}
PAUSES = 60  # tokens, 1.2 s: silence before and after, which a short text has, too
FEWEST = 12  # tokens, 0.25 s: fewer are no speech


@dataclass(frozen=True)
class TokenGate:
    """Checks the draws of one segment's tokens, and says which one goes on."""

    attempts: int
    chooses_best: bool  # of all draws, else the first that passes
    fewest: float  # tokens, from the number of characters
    most: float
    max_repeats: float
    max_run: int
    must_end: bool

    def judge(self, tokens: np.ndarray, stop: str) -> tuple[str | None, float]:
        """Why (S,) tokens are rejected (None: they pass), and their score: 0 is best.

        The score adds up how far each limit was missed, ten times, and how far the speed is from the middle of its
        range, so that it also orders draws that pass.
        """
        found = measure_tokens(tokens)
        size, most, fewest = tokens.size, self.most + PAUSES, max(self.fewest, FEWEST)
        excesses = {
            "did not end": 1.0 if self.must_end and stop == "length" else 0.0,
            f"{size} tokens > {most:.0f}": size / most - 1,
            f"{size} tokens < {fewest:.0f}": fewest / max(size, 1) - 1,
            f"token_repeats {found['token_repeats']:.2f}": found["token_repeats"] / self.max_repeats - 1,
            f"longest_token_run {found['longest_token_run']}": found["longest_token_run"] / self.max_run - 1,
        }
        missed = {text: excess for text, excess in excesses.items() if excess > 0}
        typical = (fewest * most) ** 0.5
        off = abs(float(np.log(max(size, 1) / typical))) + found["token_repeats"]
        return "; ".join(missed) or None, -10 * sum(missed.values()) - off
