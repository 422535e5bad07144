"""Checks semantic tokens before there is a sound: did they end, are they as many as the text needs, do they loop."""

from typing import Any

import numpy as np

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
