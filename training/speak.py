"""Step 2: flite speaks the sentences; what is kept of each is its features and its phone states.

A shard is one .npz of 250 utterances in STATE_DIR/speech; made shards are skipped, so the step resumes.
Utterance i of a shard: text[i], features[offset[i]:offset[i+1]], tokens[token_offset[i]:token_offset[i+1]].

    python training/speak.py STATE_DIR [first shard] [every nth]
"""

import pathlib
import sys

import numpy as np
import tracks
from vocoder import FRAME_HZ

SHARD = 250
SEMANTIC_HZ = 49.9
PHONES = """
    pau aa ae ah ao aw ax ay b ch d dh eh er ey f g hh ih iy jh k l m n ng ow oy p r s sh t th uh uw v w y z zh
""".split()  # noqa: SIM905
PARTS = 3  # a phone's states: first, middle and last third
KEPT_PAUSE_S = 0.12  # of flite's silence before and after


def phone_states(phones: list[tuple[str, float]], start_s: float, n_tokens: int) -> np.ndarray:
    """(n_tokens,) ids PARTS · phone + third, at 49.9 Hz from start_s."""
    ends = np.array([end_s for _, end_s in phones])
    begins = np.concatenate([[0.0], ends[:-1]])
    middle_s = start_s + (np.arange(n_tokens) + 0.5) / SEMANTIC_HZ
    at = np.minimum(np.searchsorted(ends, middle_s, side="right"), len(ends) - 1)
    third = ((middle_s - begins[at]) / np.maximum(ends[at] - begins[at], 1e-3) * PARTS).astype(int).clip(0, PARTS - 1)
    return (np.array([PHONES.index(phone) for phone, _ in phones])[at] * PARTS + third).astype(np.int16)


def utterance(text: str) -> tuple[np.ndarray, np.ndarray]:
    """Features (T, CEPSTRA + 3) and phone states (n,), cut so that T is what n tokens are at 75 / 49.9, as in Bark."""
    features, phones = tracks.speak(text)
    start_s = max(0.0, phones[0][1] - KEPT_PAUSE_S)
    last_s = min(phones[-1][1], (phones[-2][1] if phones[-1][0] == "pau" else phones[-1][1]) + KEPT_PAUSE_S)
    n_tokens = int((last_s - start_s) * SEMANTIC_HZ)
    n_frames = round(int(np.floor(n_tokens * FRAME_HZ / SEMANTIC_HZ * 2)) / 2)
    first = round(start_s * FRAME_HZ)
    features = features[first : first + n_frames]
    features = np.concatenate([features, np.repeat(features[-1:], n_frames - len(features), 0)])
    return features.astype(np.float32), phone_states(phones, start_s, n_tokens)


def write_shard(path: pathlib.Path, texts: list[str]) -> None:
    spoken = [utterance(text) for text in texts]
    lengths, token_lengths = ([len(part[k]) for part in spoken] for k in (0, 1))
    partial = path.with_suffix(".partial.npz")
    np.savez(
        partial,
        text=texts,
        features=np.concatenate([a for a, _ in spoken]).astype(np.float16),
        tokens=np.concatenate([b for _, b in spoken]),
        offset=np.cumsum([0, *lengths]),
        token_offset=np.cumsum([0, *token_lengths]),
    )
    partial.rename(path)
    print(path.name, f"{sum(lengths) / FRAME_HZ / 60:.1f} minutes", flush=True)


def main(state: pathlib.Path, first: int = 0, every: int = 1) -> None:
    texts = (state / "sentences.txt").read_text().splitlines()
    (state / "speech").mkdir(exist_ok=True)
    for shard in range(first, -(-len(texts) // SHARD), every):
        path = state / "speech" / f"{shard:03d}.npz"
        if not path.exists():
            write_shard(path, texts[shard * SHARD : (shard + 1) * SHARD])


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]), *map(int, sys.argv[2:]))
